"""What holds for every command: help, --store, wrong usage, a store that is not there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from neuronlake.cli import main

SOURCE = Path(__file__).resolve().parents[2] / ".src"


def commands(group: click.Group, *names: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [names]
    for name, command in group.commands.items():
        found += commands(command, *names, name) if isinstance(command, click.Group) else [(*names, name)]
    return found


@pytest.mark.parametrize("names", commands(main), ids=" ".join)
def test_every_command_says_what_it_does(succeeds, names):
    text = succeeds(*names, "--help")
    assert text.startswith("Usage: ")
    assert text == succeeds(*names, "-h")
    # After "Usage: … [OPTIONS]" and an empty line: a sentence that is not cut, and a full stop.
    description = text.split("\n\n")[1]
    assert re.search(r"\.$", description), description
    # And examples of the command, or of those of a group.
    examples = re.findall(r"^  neuronlake (.*)", text.rpartition("\nExample")[2], re.MULTILINE)
    assert examples
    assert {tuple(shlex.split(line)[: len(names)]) for line in examples} == {names}


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("ingest", "--dtype"),
        ("partition", "--features"),
        ("align", "--bins"),
        ("perturb", "--scale"),
        ("emergence", "--starts"),
    ],
)
def test_options_that_are_rarely_needed_are_listed_apart(succeeds, command, option):
    common, _, advanced = succeeds(command, "--help").partition("Advanced:")
    assert option in advanced
    assert option not in common


def test_the_module_is_the_command(python):
    process = python("-m", "neuronlake", "--help")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("Usage: ")
    assert "neuronlake" in process.stdout.splitlines()[0]


def test_help_and_sql_do_not_import_torch(python, made_store):
    lines = """
import sys
from click.testing import CliRunner
from neuronlake.cli import main
for arguments in (["--help"], ["ingest", "--help"], ["--store", sys.argv[1], "sql", "select 1"]):
    assert CliRunner().invoke(main, arguments).exit_code == 0, arguments
print(sorted({"torch", "transformers", "sklearn", "polars", "pandas"} & set(sys.modules)))
"""
    process = python("-c", lines, str(made_store))
    assert process.stdout.strip() == "[]", process.stderr


def test_what_is_asked_wrongly_or_held_already_is_answered_without_torch(python, store, bert):
    lines = f"""
import sys
import click
from neuronlake.cli import main
def run(*arguments):
    try:
        main(["--store", {str(store)!r}, *arguments], standalone_mode=False)
        message = "done"
    except click.ClickException as error:
        message = error.message
    assert not {{"torch", "transformers", "huggingface_hub"}} & set(sys.modules), arguments
    print(message)
bert = {str(bert)!r}
run("ingest", bert, "--corpus", "word")
run("ingest", bert, "--corpus", "word", "--dry-run")
run("ingest", bert, "--corpus", "word", "--random-init", "0", "--random-init", "1")
run("ingest", bert, "--corpus", "words")
run("partition", "tiny-bert", "--method", "random", "--experts", "4")
run("partition", bert, "--name", "tiny-bert", "--experts", "4", "--warm-start", "none")
run("partition", "tiny", "--method", "native")
run("perturb", bert, "--top", "--run", "none")
run("perturb", bert, "--top", "--corpus", "word")
run("perturb", bert, "--top", "--family", "tusk")
run("perturb", bert, "--top", "--function", "task/ox")
run("perturb", bert, "--top", "--layers", "9")
run("perturb", bert, "--functional", "none", "--dry-run")
run("emergence", bert, "--experts", "4")
run("align", "none")
run("describe", "neuron", "tiny", "--layer", "0", "--neuron", "0")
run("corpus", "shuffle", "word", "--name", "shuffled")
"""
    process = python("-c", lines)
    assert process.returncode == 0, process.stderr
    told = [line for line in process.stdout.splitlines() if line.startswith(("no ", "run ", "done"))]
    starts = (
        *("no corpus 'word'", "no corpus 'word'", "no corpus 'word'", "run ", "done", "done", "no partition 'none'"),
        *("no model 'tiny'", "no run 'none'", "no corpus 'word'", "no family 'tusk'", "no function 'task/ox'", "run "),
        *("no partition 'none'", "no series ", "no partition 'none'", "no model 'tiny'", "no corpus 'word'"),
    )
    assert len(told) == len(starts)
    assert all(line.startswith(start) for line, start in zip(told, starts, strict=True)), told


def test_several_runs_where_one_is_meant_name_the_option_that_chooses(fails, store, bert, succeeds):
    succeeds("--store", store, "ingest", bert, "--corpus", "words", "--pooling", "mean")
    message = fails("--store", store, "describe", "neuron", "tiny-bert", "--layer", "0", "--neuron", "0")
    assert re.match(r"no single run 'tiny-bert main' in \S+ \(--run chooses one\); available: ", message)


def test_the_version_is_told(succeeds):
    assert re.fullmatch(r"neuronlake, version \d+\.\d+\.\d+\S*\n", succeeds("--version"))


def test_the_store_is_named_before_or_after_the_command(succeeds, made_store):
    query = ("select count(*) as n from runs", "--format", "csv")
    assert succeeds("--store", made_store, "sql", *query) == "n\n1\n"
    assert succeeds("sql", *query, "--store", made_store) == "n\n1\n"
    assert "words" in succeeds("corpus", "list", "--store", made_store)
    assert "words" in succeeds("--store", made_store, "corpus", "list")


def test_the_store_named_last_is_used(succeeds, made_store):
    assert "words" in succeeds("--store", "nowhere", "corpus", "list", "--store", made_store)


def test_the_environment_names_the_store_unless_the_command_does(succeeds, fails, made_store, monkeypatch):
    monkeypatch.setenv("NEURONLAKE_STORE", str(made_store))
    assert "words" in succeeds("corpus", "list")
    assert "nowhere" in fails("--store", "nowhere", "corpus", "list")
    monkeypatch.setenv("NEURONLAKE_STORE", "nowhere")
    assert "words" in succeeds("--store", made_store, "corpus", "list")


def test_an_empty_environment_variable_names_no_store(succeeds, corpus_file, monkeypatch):
    monkeypatch.setenv("NEURONLAKE_STORE", "")
    succeeds("corpus", "add", corpus_file, "--name", "words")
    assert [path.name for path in Path.cwd().iterdir()] == ["neuronlake-store"]


def test_the_store_is_neuronlake_store_by_default(succeeds, corpus_file):
    succeeds("corpus", "add", corpus_file, "--name", "words")
    assert (Path.cwd() / "neuronlake-store" / "commits").is_dir()
    assert "words" in succeeds("corpus", "list")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ask",), "No such command 'ask'"),
        (("sql",), "Missing argument 'QUERY'"),
        (("sql", "select 1", "select 2"), "unexpected extra argument"),
        (("sql", "select 1", "--format", "xml"), "'xml' is not one of 'table', 'csv', 'json', 'parquet'"),
        (("ingest", "model"), "Missing option '--corpus'"),
        (("corpus", "add", "absent.jsonl", "--name", "words"), "'absent.jsonl' does not exist"),
        (("corpus", "build", "wordnet"), "No such command 'wordnet'"),
        (("tables", "--sql", "--format", "csv"), "--sql prints the script of all views"),
        (("tables", "specialization", "--sql"), "--sql prints the script of all views"),
    ],
)
def test_wrong_usage_exits_with_2(is_usage_error, arguments, message):
    assert message in is_usage_error(*arguments)


def test_no_command_at_all_shows_the_commands(neuronlake):
    result = neuronlake()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: ")
    assert all(name in result.stderr for name in main.commands)


@pytest.mark.parametrize(
    "arguments",
    [
        ("sql", "select 1"),
        ("sql", "from runs"),
        ("sql", "from specialization"),
        ("shell",),
        ("describe", "neuron", "tiny-bert", "--layer", "0", "--neuron", "0"),
        ("align", "12345678"),
        ("corpus", "list"),
        ("corpus", "show", "words"),
        ("tables",),
        ("tables", "--sql"),
        ("materialize",),
        ("check",),
    ],
    ids=" ".join,
)
def test_a_store_that_is_not_there_is_named_and_not_made(fails, arguments):
    assert "absent" in fails("--store", "absent", *arguments)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("arguments", [("sql", "from runs"), ("corpus", "list"), ("check",), ("materialize",)], ids=str)
def test_a_store_that_is_a_file_is_said_to_be_one(fails, corpus_file, arguments):
    assert "is not a folder" in fails("--store", corpus_file, *arguments)


@pytest.mark.parametrize("where", ["corpus", "/proc/store"])
def test_a_store_that_cannot_be_written_is_one_clear_line(fails, corpus_file, where):
    folder = corpus_file if where == "corpus" else where
    line = fails("--store", folder, "corpus", "add", corpus_file, "--name", "words")
    assert line.startswith(f"cannot write the store {folder}: ")


@pytest.mark.parametrize("query", ["from neuron_functions", "from range(200000)"])
def test_a_reader_that_closes_the_pipe_gets_no_traceback(made_store, query):
    lines = "from neuronlake.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", lines, "--store", str(made_store), "sql", "--format", "csv", query],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


HOSTILE = "\x1b]52;c;eA==\x07\u202e\x9b"


def test_control_sequences_of_a_store_are_escaped_wherever_they_are_printed(neuronlake, write_jsonl, tmp_path):
    rows = [{"text": f"the cat {n} {HOSTILE}", "labels": ["task/animal"] if n % 2 else []} for n in range(8)]
    store = ("--store", tmp_path / "store")
    added = ("corpus", "add", write_jsonl(tmp_path / "w.jsonl", rows), "--name", "w", "--description", f"a {HOSTILE}")
    for arguments in (
        added,
        ("corpus", "list"),
        ("corpus", "show", "w"),
        ("corpus", "show", f"w{HOSTILE}"),
        ("sql", "from texts"),
        ("sql", f"from '{HOSTILE}.csv'"),
        ("sql", f"select 1 as '{HOSTILE}'"),
        ("sql", "select 1", "-o", f"{HOSTILE}.xlsx"),
    ):
        printed = neuronlake(*store, *arguments).output
        assert not set(HOSTILE) & {"\x1b", "\x07", "\u202e", "\x9b"} & set(printed), arguments
        assert r"\x1b]52;c;eA==\x07\u202e" in printed or arguments == added


@pytest.mark.parametrize(
    "arguments", [("select '\udcff'",), ("-",), ("update extensions",), ("select list(started_at) from runs",)]
)
def test_sql_that_python_or_duckdb_would_stumble_over_is_one_line_or_rows(neuronlake, made_store, arguments):
    result = neuronlake("--store", made_store, "sql", *arguments, standard_input=b"select '\xff'")
    assert (result.exit_code, len(result.output.splitlines())) in ((1, 1), (0, 2))


def test_names_of_ones_own_are_not_taken_for_options(fails, tmp_path):
    nowhere = tmp_path / "max_tokens" / "store"
    line = fails("--store", nowhere, "ingest", "x", "--corpus", "top_k")
    assert line.startswith(f"no corpus 'top_k' in {nowhere};")


def test_a_full_disk_behind_standard_output_is_said_in_one_line(store):
    command = [sys.executable, "-m", "neuronlake", "--store", str(store), "tables"]
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (process.returncode, process.stderr) == (
        1,
        "Error: cannot write to standard output: No space left on device\n",
    )
