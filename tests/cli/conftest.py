"""The real command line, run in this process, and a small store made with it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from neuronlake.cli import main

INSTANCES = (
    {"text": "the cat sat on the mat", "labels": ["task/animal"]},
    {"text": "a dog ran near the tree", "labels": ["task/animal"]},
    {"text": "old stone house", "labels": []},
    {"text": "quick bird flew over water", "labels": ["task/animal"]},
    {"text": "blue river near the city", "labels": ["knowledge/place"]},
    {"text": "king and queen sat", "labels": []},
    {"text": "song of money", "labels": []},
    {"text": "green light on the bank", "labels": ["knowledge/place"]},
    {"text": "lazy fish swam under the river", "labels": ["task/animal", "knowledge/place"]},
    {"text": "lazy fish swam under the river", "labels": ["task/animal", "knowledge/place"]},
)

SOURCE = Path(__file__).resolve().parents[2] / ".src"

Run = Callable[..., Result]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Run torch on one thread: models this small lose more than they gain on several."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start in an empty folder and without a store named in the environment."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("NEURONLAKE_STORE", raising=False)


def invoke(*arguments: object, standard_input: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], input=standard_input, prog_name="neuronlake")


@pytest.fixture(scope="session")
def neuronlake() -> Run:
    """Return a function that runs a command line in this process."""
    return invoke


@pytest.fixture(scope="session")
def succeeds() -> Callable[..., str]:
    """Return a function that runs a command line that is to succeed, and returns what it prints."""

    def run(*arguments: object, standard_input: str | None = None) -> str:
        result = invoke(*arguments, standard_input=standard_input)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.fixture(scope="session")
def fails() -> Callable[..., str]:
    """Return a function that runs a command line that is to fail in one clear line, and returns that line."""

    def run(*arguments: object, standard_input: str | None = None) -> str:
        result = invoke(*arguments, standard_input=standard_input)
        assert isinstance(result.exception, SystemExit), f"{result.exception!r}\n{result.output}"
        assert (result.exit_code, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith("Error: ")
        return line.removeprefix("Error: ")

    return run


@pytest.fixture(scope="session")
def is_usage_error() -> Callable[..., str]:
    """Return a function that runs a command line that is wrong usage, and returns its last line."""

    def run(*arguments: object) -> str:
        result = invoke(*arguments)
        assert isinstance(result.exception, SystemExit), f"{result.exception!r}\n{result.output}"
        assert (result.exit_code, result.stdout) == (2, "")
        lines = result.stderr.splitlines()
        assert lines[0].startswith("Usage: ")
        assert lines[-1].startswith("Error: ")
        return lines[-1].removeprefix("Error: ")

    return run


@pytest.fixture(scope="session")
def write_jsonl() -> Callable[[Path, Sequence[object]], Path]:
    """Return a function that writes rows as a JSONL file."""

    def write(path: Path, rows: Sequence[object]) -> Path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Return a function that reads every file of a store that is not work in progress."""

    def read(store: Path) -> dict[str, bytes]:
        files = [path for path in store.rglob("*") if path.is_file()]
        relative = {path.relative_to(store): path for path in files}
        return {str(name): path.read_bytes() for name, path in relative.items() if ".staging" not in name.parts}

    return read


@pytest.fixture(scope="session")
def corpus_file(
    tmp_path_factory: pytest.TempPathFactory, write_jsonl: Callable[[Path, Sequence[object]], Path]
) -> Path:
    """Return a corpus of ten rows, two of them the same, with two functions."""
    return write_jsonl(tmp_path_factory.mktemp("corpus") / "words.jsonl", INSTANCES)


@pytest.fixture(scope="session")
def bert(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("bert")


@pytest.fixture(scope="session")
def made_store(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path, bert: Path) -> Path:
    """Return a store with corpus `words` and one run, made through the command line; not to be written to."""
    store = tmp_path_factory.mktemp("made") / "store"
    for arguments in (
        ("corpus", "add", corpus_file, "--name", "words"),
        ("ingest", bert, "--corpus", "words"),
    ):
        result = invoke("--store", store, *arguments)
        assert result.exit_code == 0, result.output
    return store


@pytest.fixture
def store(made_store: Path, tmp_path: Path) -> Path:
    """Return a copy of the store, to be written to."""
    return shutil.copytree(made_store, tmp_path / "store")


@pytest.fixture(scope="session")
def python() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Return a function that runs Python in a process of its own, with the package importable."""

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": str(SOURCE), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run
