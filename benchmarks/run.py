"""Run the benchmarks, each in a process of its own, and print their tables as one Markdown document."""

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

NAMES = (
    "scoring",
    "nulls",
    "clustered_labels",
    "controls",
    "clustered_experts",
    "ingest",
    "memory",
    "dry_run",
    "series",
    "experts",
    "coactivation",
    "partitions",
    "emergence",
    "stability",
    "calibration",
    "perturbation",
    "perturbation_calibration",
    "storage",
    "queries",
    "startup",
)
PACKAGES = ("neuronlake", "duckdb", "polars", "pyarrow", "numba", "torch", "transformers", "scikit-learn")


def processor():
    """Return the model of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def run(name):
    """Run one benchmark; return its exit status."""
    return subprocess.run([sys.executable, f"{name}.py"], cwd=Path(__file__).parent, check=False).returncode


def main():
    """Print the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}; all by default")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{processor()}, {cores} cores; Python {platform.python_version()}, {versions}", flush=True)
    failed = [name for name in arguments.names or NAMES if run(name)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
