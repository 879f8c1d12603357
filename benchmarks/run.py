"""Run the benchmarks, each in a process of its own; keep the tables in results/ and fill docs/benchmarks.md.

    python run.py [NAME ...] [--skip NAME]
    python run.py --render

All by default. What cannot run here fails and is told at the end, unless it is skipped by name: `gpu` needs a GPU,
`remote` and `rankings` the store of `make demo`, `semcor` the corpus, `extraction` the extra `bench`; `queries` and
`questions` write and keep a store of 11 GB in ../build/generated. With --render nothing runs.
"""

import argparse
import subprocess
import sys

from document import FOLDER, RESULTS, render

# What the document shows: a benchmark and the arguments of each of its commands.
COMMANDS = {
    "scoring": [[]],
    "expertise": [[]],
    "extraction": [[]],
    "ingest": [[], ["--words", "3000", "--storage", "float16", "--repeats", "5"]],
    "memory": [[]],
    "dry_run": [[]],
    "series": [["--per-topic", "5"]],
    "experts": [[]],
    "nulls": [[]],
    "clustered_labels": [["--seeds", "5"], ["--power"]],
    "controls": [[]],
    "clustered_experts": [["--seeds", "5"]],
    "calibration": [[]],
    "rankings": [[]],
    "coactivation": [[]],
    "partitions": [["--large"]],
    "semcor": [[]],
    "storage": [[]],
    "queries": [["--checkpoints", "50", "--store", "../build/generated"]],
    "questions": [["--check"]],
    "runs": [[]],
    "emergence": [[]],
    "stability": [[]],
    "remote": [[]],
    "perturbation": [[]],
    "perturbation_calibration": [[]],
    "startup": [[]],
    "gpu": [["../build/gpu.json"]],
}


def run(name):
    """Run the commands of a benchmark; return whether all went well."""
    out = ["--out", str(RESULTS / f"{name}.json")]
    commands = [[sys.executable, f"{name}.py", *arguments, *out] for arguments in COMMANDS[name]]
    return not sum(subprocess.run(command, cwd=FOLDER, check=False).returncode for command in commands)


def main():
    """Run what is asked for, and fill the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(COMMANDS)}; all by default")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="leave one out")
    parser.add_argument("--render", action="store_true", help="fill the document from results/, and run nothing")
    arguments = parser.parse_args()
    unknown = sorted({*arguments.names, *arguments.skip} - COMMANDS.keys())
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(COMMANDS)}")
    names = [] if arguments.render else [name for name in arguments.names or COMMANDS if name not in arguments.skip]
    failed = [name for name in names if not run(name)]
    render()
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
