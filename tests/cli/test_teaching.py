"""What the command line teaches: examples that run, the next step, completion, how much is told, a store's state."""

import json
import logging
import re
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from neuronlake.cli import main
from neuronlake.commands.groups import _examples
from neuronlake.commands.printing import typed
from neuronlake.progress import LOGGER, show_progress

# Examples that only read a store, by their first words.
READING = (
    *("status", "sql", "describe", "report", "tables", "check", "corpus list", "corpus show", "share verify"),
    *("share pack", "runs", "remove"),
)
EXAMPLES = list(_examples())
DEMO_PARTITION = "8d1c68d4"  # of the demo's model; tests/demo holds it


@pytest.fixture(scope="module")
def demo_store(succeeds, bert, write_jsonl, tmp_path_factory) -> Path:
    """Return a store with the names of the demo's, and a partition."""
    folder = tmp_path_factory.mktemp("demo")
    store = ("--store", folder / "neuronlake-store")
    words = ("cat", "dog", "bird", "fish", "tree", "house", "river", "stone")
    rows = [
        {"text": f"the {colour} {word}{place}", "labels": {"knowledge/capital": word in words[:4]}}
        for word in words
        for colour in ("red", "blue", "old", "new", "green")
        for place in ("", " near the city")
    ]
    succeeds(*store, "corpus", "add", write_jsonl(folder / "texts.jsonl", rows), "--name", "demo")
    succeeds(*store, "ingest", bert, "--name", "all-MiniLM-L6-v2", "--corpus", "demo", "--pooling", "mean")
    succeeds(*store, "partition", "all-MiniLM-L6-v2", "--method", "random", "--experts", "4")
    return folder / "neuronlake-store"


@pytest.fixture
def partition(succeeds, demo_store) -> str:
    return succeeds("--store", demo_store, "sql", "--format", "csv", "select partition_id from partitions").split()[1]


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_parses(line):
    for path in ("path/to/semcor3.0", "path/to/trex", "path/to/texts"):
        Path(path).mkdir(parents=True)
    for path in ("path/to/treebank.conllu", "texts.jsonl", "published.csv"):
        Path(path).touch()
    context = main.make_context("neuronlake", shlex.split(line)[1:])
    while isinstance(context.command, click.Group):
        words = context._protected_args + context.args
        name, command, rest = context.command.resolve_command(context, words)
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=[pytest.mark.slow] * line.startswith("neuronlake report"))
        for line in EXAMPLES
        if line.removeprefix("neuronlake ").startswith(READING)
    ],
)
def test_an_example_that_reads_a_store_runs(succeeds, demo_store, partition, line):
    words = shlex.split(line.replace(DEMO_PARTITION, partition))[1:]
    if words[0] == "report":
        pytest.importorskip("altair")
    succeeds("--store", demo_store, *words)


def test_a_command_that_changes_a_store_ends_with_the_next_one_unless_it_is_quiet(neuronlake, demo_store, tmp_path):
    store = shutil.copytree(demo_store, tmp_path / "my store")
    shuffle = ("corpus", "shuffle", "demo", "--name")
    told = neuronlake("--store", store, *shuffle, "other").stderr
    assert shlex.split(told)[-6:] == ["--store", str(store), "ingest", "all-MiniLM-L6-v2", "--corpus", "other"]
    told = neuronlake("--store", store, "partition", "all-MiniLM-L6-v2", "--method", "function", "--experts", "4")
    partition_id = re.search(r"partition (\w{16})", told.stdout)[1]
    assert told.stderr.splitlines()[-1].endswith(f" align {partition_id}")
    quiet = neuronlake("--quiet", "--store", store, *shuffle, "c")
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    assert quiet.stdout.startswith("corpus c: ")
    assert neuronlake("check", "-q", "--store", store).output == ""


def test_a_corpus_is_added_beside_a_damaged_run_and_the_next_command_named(neuronlake, demo_store, tmp_path):
    store = shutil.copytree(demo_store, tmp_path / "store")
    next((store / "data" / "runs").rglob("*.parquet")).write_bytes(b"damaged")
    result = neuronlake("--store", store, "corpus", "shuffle", "demo", "--name", "other")
    assert (result.exit_code, result.stderr.split()[-4:]) == (0, ["ingest", "MODEL", "--corpus", "other"])


def test_check_prints_a_line_for_a_folder_with_a_line_break_in_its_name(neuronlake, demo_store, tmp_path):
    store = shutil.copytree(demo_store, tmp_path / "store")
    (store / ".staging" / "a\nb").mkdir(parents=True)
    assert re.match(
        r"\.staging/a\\nb: left by .*\n[\d,]+ committed files, 0 problems\n$",
        neuronlake("--store", store, "check").stderr,
    )


@pytest.mark.parametrize("started", ["", "-c", "/usr/lib/notebook.py"])
def test_a_command_is_named_where_the_program_was_not_started_as_one(monkeypatch, started):
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("sys.argv", [started])
    assert typed("status", ["my store"]) == "python -m neuronlake --store 'my store' status"
    monkeypatch.setattr("sys.argv", [str(Path("my env/bin/neuronlake").absolute())])
    assert typed("status", ["neuronlake-store"]) == "'my env/bin/neuronlake' status"


def test_verbose_tells_phases_queries_and_files_and_only_one_of_both_is_taken(
    neuronlake, is_usage_error, made_store, store
):
    told = neuronlake("--verbose", "--store", store, "partition", "tiny-bert", "--method", "random", "--experts", "4")
    assert re.search(r"\d ms  clustering: 2 layers\n", told.stderr)
    assert re.search(r"clustering: 2 of 2 layers, .* a second, [\d.]+ s in all\n", told.stderr)
    assert re.search(r"\d ms  committed \w{16} in \S+: data/experts/\S+, ", told.stderr)
    asked = neuronlake("--store", made_store, "sql", "-v", "select 1 as one from runs")
    assert re.fullmatch(r" *\d+ ms  \d+ ms: select 1 as one from runs\n", asked.stderr)
    assert (LOGGER.level, LOGGER.handlers) == (logging.NOTSET, [])
    assert "exclude each other" in is_usage_error("--quiet", "--store", made_store, "sql", "--verbose", "select 1")
    assert LOGGER.level == logging.NOTSET


def completed(store: object, line: str) -> list[str]:
    words = shlex.split(line)
    last = "" if line.endswith(" ") else words.pop()
    found = ShellComplete(main, {}, "neuronlake", "_").get_completions(["--store", str(store), *words], last)
    return [item.value for item in found]


def test_a_shell_completes_what_the_store_has(demo_store, partition):
    asked = {
        "describe neuron ": ["all-MiniLM-L6-v2"],
        "ingest all": ["all-MiniLM-L6-v2"],
        "ingest my": ["my"],  # a path
        "ingest x --corpus d": ["demo"],
        "align ": [partition],
        "perturb x --functional ": [partition],
        "perturb x --function ": ["knowledge/capital"],
        "report --family ": ["knowledge"],
        "tables speci": ["specialization"],
        "tables neuron_f": ["neuron_functions"],
        "materialize neuron_f": [],
        "remove d": ["demo"],
        "sql - --for": ["--format"],
    }
    assert {line: completed(demo_store, line) for line in asked} == asked
    (run,) = completed(demo_store, "align x --run ")
    assert re.fullmatch(r"\w{16}", run)
    assert [completed(store, "align ") for store in ("absent", "https://example.org/store", "texts.jsonl")] == [[]] * 3


def test_completion_is_a_program_that_loads_no_torch_and_prints_no_error(python, demo_store):
    lines = "import sys; from neuronlake.cli import main\ntry: main(prog_name='neuronlake')\nfinally: print(sorted({"
    lines += "'torch', 'polars', 'transformers'} & set(sys.modules)))"
    words = {"COMP_WORDS": "neuronlake describe neuron ", "COMP_CWORD": "3", "_NEURONLAKE_COMPLETE": "bash_complete"}
    done = python("-c", lines, **words, NEURONLAKE_STORE=str(demo_store))
    assert (done.stdout, done.stderr) == ("plain,all-MiniLM-L6-v2\n[]\n", "")
    done = python("-c", lines, **words, NEURONLAKE_STORE=str(demo_store / "absent"))
    assert (done.stdout.split(), done.stderr) == (["[]"], "")


def rows(succeeds, *stores: object) -> dict[str, dict[str, object]]:
    named = [word for store in stores for word in ("--store", store)]
    return {row["what"]: row for row in json.loads(succeeds(*named, "status", "--format", "json"))}


def test_status_tells_what_a_store_holds_and_lacks_wherever_it_lies(succeeds, demo_store, tmp_path):
    found = rows(succeeds, demo_store)
    assert next((row["n"], row["names"]) for row in found.values() if row["part"] == "holds") == (1, "main")
    assert found["partitions by random"]["n"] == found["corpora"]["n"] == 1
    assert "a partition without alignments" not in found  # random groups are what others are compared with
    lacking = {what: row["command"] for what, row in found.items() if row["part"] == "lacks"}
    assert [what.partition(",")[0] for what in lacking] == [
        "no random initialisation to compare with", "no control functions",
        "no experts that were made without scores", "no ablations",
    ]  # fmt: skip
    pack = tmp_path / "pack.zip"
    succeeds("--store", demo_store, "share", "pack", pack)
    assert zipfile.is_zipfile(pack)
    assert rows(succeeds, pack) == rows(succeeds, pack, demo_store) == found
    for stores in ((pack,), (pack, demo_store)):
        said = succeeds(*(word for store in stores for word in ("--store", store)), "status")
        assert set(re.findall(r"--store (\S+) (?:ingest|partition|perturb) ", said)) == {"DIR"}


def test_what_status_says_to_run_fills_the_gaps(succeeds, neuronlake, demo_store, bert, tmp_path, monkeypatch):
    shutil.copytree(demo_store, "neuronlake-store")
    shutil.copytree(bert, "all-MiniLM-L6-v2")
    succeeds("materialize", "partition_agreement")
    succeeds("partition", "all-MiniLM-L6-v2", "--method", "random", "--experts", "8")
    succeeds("corpus", "shuffle", "demo", "--name", "other")
    Path("neuronlake-store/.staging/killed").mkdir(parents=True)
    monkeypatch.setattr("shutil.which", lambda _: "/bin/neuronlake")
    said = succeeds("status")
    ran = []
    for line in re.findall(r"^neuronlake .*", said, re.MULTILINE):
        words = shlex.split(line)[1:]
        quick = {"perturb": ["--dose", "0.1", "--seeds", "2", "--bootstrap", "10"]}
        result = neuronlake(*words, *quick.get(words[0], ()))
        assert result.exit_code == 0, (line, result.output)
        ran.append(words[0])
    assert ran == ["ingest", "ingest", "partition", "perturb", "ingest", "materialize", "check"]
    left = [row for row in rows(succeeds, "neuronlake-store").values() if row["part"] == "lacks"]
    # Of what these commands made, other things are lacking now.
    assert not {row["command"] for row in left} & set(re.findall(r"^neuronlake .*", said, re.MULTILINE))
    assert "a partition without alignments" in {row["what"] for row in left}


def test_status_names_no_command_that_imported_scores_would_be_refused_by(succeeds, tmp_path):
    scores = tmp_path / "scores.csv"
    scores.write_text("stack,layer,neuron,family,function,score\nencoder,0,0,f,g,0.5\nencoder,0,1,f,g,0.1\n")
    for step in "123":
        revision = ("--revision", f"step{step}", "--step", step)
        succeeds("--store", "s", "share", "import", scores, "--model", "x", "--score", "score", *revision)
    commands = [row["command"] for row in rows(succeeds, "s").values() if row["part"] == "lacks"]
    assert [command.split()[1] for command in commands] == ["partition", "materialize"]


def test_status_names_no_study_of_a_run_that_it_would_refuse(succeeds, demo_store, bert, write_jsonl, tmp_path):
    store = ("--store", shutil.copytree(demo_store, tmp_path / "store"))
    words = [
        {"text": f"{word} {colour}", "start": 0, "end": len(word), "labels": {"task/red": colour == "red"}}
        for word in ("cat", "dog", "bird", "fish", "tree", "house", "river", "stone")
        for colour in ("red", "blue")
    ]
    succeeds(*store, "corpus", "add", write_jsonl(tmp_path / "words.jsonl", words), "--name", "words")
    for settings in (("--site", "preactivation"), ("--halves", "word")):
        succeeds(*store, "ingest", bert, "--name", settings[1], "--corpus", "words", *settings)
    assert re.findall(r" perturb (\S+) ", succeeds(*store, "status")) == ["all-MiniLM-L6-v2"]


def test_an_interruption_says_what_is_kept_and_what_the_job_says_comes_first():
    for notes, kept in (([], "all of it is kept"), (["3 of 4 are kept"], "3 of 4 are kept")):
        error = KeyboardInterrupt()
        for note in notes:
            error.add_note(note)
        with pytest.raises(KeyboardInterrupt) as stopped, show_progress("all of it is kept"):
            raise error
        assert stopped.value.__notes__ == [kept]


def test_a_command_that_is_stopped_says_it_on_one_line():
    script = """if True:
        import os, signal
        from neuronlake.analysis.partitions import job
        job.partition_model = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)
        from neuronlake.__main__ import run
        run()
        """
    command = [sys.executable, "-c", script, "partition", "x", "--method", "random", "--experts", "4"]
    source = str(Path(__file__).resolve().parents[2] / ".src")
    done = subprocess.run(command, env={"PYTHONPATH": source}, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "stopped: the store is as it was\n")
