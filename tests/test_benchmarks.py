"""The page of benchmarks is what their results say; those that cannot be run here in full run in small."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """Return what imports a module of the benchmarks, and forgets it after the test."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    for name in ("table", "document", "run"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module


def run(*command: object) -> str:
    process = subprocess.run(
        [sys.executable, *map(str, command)], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout


def test_the_page_of_benchmarks_is_filled_from_the_results_committed(module):
    document = module("document")
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert document.filled(text, document.results()) == text, "python benchmarks/run.py --render"


def test_every_benchmark_is_run_by_make_bench(module):
    files = {file.stem for file in BENCHMARKS.glob("*.py") if "print_table(" in file.read_text(encoding="utf-8")}
    assert set(module("run").COMMANDS) == files - {"table"}


def test_a_place_takes_the_table_of_its_title_and_says_where_it_has_none(module):
    document, machine = module("document"), {"processor": "CPU", "cores": 2, "load": 0.5, "python": "3", "packages": {}}
    table = {"title": "B", "command": "python a.py", "date": "2026-11-30", "machine": machine, "note": "Noted."}
    table |= {"header": ["x", "y"], "rows": [["1", "2"]]}
    text = "Before.\n\n<!-- table: a/B -->\nold\n<!-- end -->\n\n<!-- table: a/C -->\n<!-- end -->\nAfter."
    filled = document.filled(text, {("a", "B"): table})
    assert filled == (
        "Before.\n\n<!-- table: a/B -->\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\nNoted.\n\n"
        "*`python a.py`: 2026-11-30, CPU, 2 cores, load 0.5.*\n\n<!-- end -->\n\n"
        "<!-- table: a/C -->\n\nNo table yet: `python a.py`.\n\n<!-- end -->\nAfter."
    )
    assert document.filled(filled, {("a", "B"): table}) == filled
    with pytest.raises(ValueError, match="no place in the document for <!-- table: a/D -->"):
        document.filled(text, {("a", "B"): table, ("a", "D"): table})


def test_a_table_is_kept_in_the_place_of_one_of_the_same_title(module, tmp_path):
    table, file = module("table"), tmp_path / "results" / "a.json"
    for title, cell in (("A", "1"), ("B", "2"), ("A", "3 × ü")):
        table.keep(file, {"title": title, "header": ["x"], "rows": [[cell], ["-"]]})
    assert [(each["title"], each["rows"]) for each in table.read(file)] == [
        ("A", [["3 × ü"], ["-"]]),
        ("B", [["2"], ["-"]]),
    ]
    assert '\n  ["3 × ü"],\n' in file.read_text(encoding="utf-8")


def test_exponents_are_slopes_on_logarithmic_axes(module):
    assert module("table").exponents([10, 20, 200], [3.0, 12.0, 11.99]) == ["", "2.00", "0.00"]


@pytest.mark.slow
@pytest.mark.parametrize(("skipped", "status"), [((), 1), (("nnsight", "transformer_lens"), 0)])
def test_a_peer_that_is_not_installed_is_told_in_a_line_and_the_others_are_measured(skipped, status, tmp_path):
    out = tmp_path / "extraction.json"
    arguments = ["extraction.py", "--tokens", "16", "--repeats", "1", "--out", str(out)]
    arguments += [each for name in skipped for each in ("--skip", name)]
    script = (
        "import runpy, sys\nsys.path.insert(0, '')\nsys.modules.update(nnsight=None, transformer_lens=None)\n"
        f"sys.argv = {arguments}\nrunpy.run_path('extraction.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", script]
    process = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert process.returncode == status, process.stderr[-2000:]
    assert process.stdout.count("is not installed and left out") == 2 - len(skipped)
    (table,) = json.loads(out.read_text(encoding="utf-8"))
    assert table["header"][2:4] == ["ours / bare", "hooks / bare"]
    assert table["command"] == " ".join(["python", *(each for each in arguments if each not in ("--out", str(out)))])
    assert table["machine"]["load"] >= 0


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
    assert large < small + 160  # MB, of which 50 to 110 are noise of allocators; their activations differ by 917
