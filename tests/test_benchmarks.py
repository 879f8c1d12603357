"""Benchmarks that cannot be run here in full run in small, and one holds memory to its word."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def run(*command: object) -> str:
    process = subprocess.run(
        [sys.executable, *map(str, command)], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_runs_in_small_and_makes_only_what_its_file_lacks(tmp_path):
    file, kept = tmp_path / "gpu.json", "ingest bert, 16 tokens, texts"
    file.write_text(json.dumps({kept: {"ratio": -1}}))
    printed = run("gpu.py", file, "--tiny", "--seconds", 3600)
    found = json.loads(file.read_text())
    assert found.pop(kept) == {"ratio": -1}
    assert kept not in printed
    assert len(found) == 10
    assert found["scoring 5 functions over 200 instances"]["largest difference"] < 1e-6
    assert all(of["ratio"] > 0 and of["profile, ms"] for name, of in found.items() if name.startswith("ingest"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_instances(tmp_path):
    table = [line.split("|") for line in run("memory.py", "--texts", 100, 1500).splitlines() if line.startswith("|")]
    small, large = (int(row[3].replace(",", "")) for row in table[2:])
    assert large < small + 64  # MB; their activations differ by 917
