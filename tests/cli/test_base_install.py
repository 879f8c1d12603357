"""What needs no model runs without the libraries of models, and what needs one says which extra brings it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from neuronlake.commands.groups import extra_of

ROOT = Path(__file__).resolve().parents[2]
# Modules that the base does not install.
MISSING = (
    *("torch", "transformers", "tokenizers", "safetensors", "numba", "scipy", "sklearn", "k_means_constrained"),
    *("pymetis", "datasets", "pandas"),
)
# Command lines one after another in an environment in which these were never installed: exit status, output, errors.
PROGRAM = f"""
import json
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MISSING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from click.testing import CliRunner
from neuronlake.cli import main
done = [CliRunner().invoke(main, arguments) for arguments in json.loads(sys.argv[1])]
print(json.dumps([[each.exit_code, each.stdout, each.stderr] for each in done]))
"""
# What asks, checks and keeps a store.
COMMANDS = (
    ("sql", "select count(*) as n from specialization"),
    ("tables",),
    ("tables", "neurons", "--files"),
    ("tables", "--views"),
    ("tables", "--sql"),
    ("describe", "neuron", "tiny-bert", "--layer", "0", "--neuron", "1"),
    ("corpus", "list"),
    ("corpus", "show", "words"),
    ("materialize", "specialization"),
    ("runs",),
    ("runs", "--all"),
    ("remove", "words", "--with-dependents", "--dry-run"),
    ("check",),
    ("share", "verify"),
)

Process = subprocess.CompletedProcess[str]


@pytest.fixture
def without_models(store: Path, python: Callable[..., Process]) -> Callable[..., list[tuple[int, str, str]]]:
    """Return a function that runs command lines where the libraries of models are missing."""

    def run(commands: Sequence[Sequence[str]]) -> list[tuple[int, str, str]]:
        done = python("-c", PROGRAM, json.dumps(commands), NEURONLAKE_STORE=str(store))
        assert done.returncode == 0, done.stderr
        return [(code, output, errors) for code, output, errors in json.loads(done.stdout)]

    return run


def test_a_store_is_read_without_the_libraries_of_models(
    without_models: Callable[..., list[tuple[int, str, str]]],
) -> None:
    for arguments, (code, output, errors) in zip(COMMANDS, without_models(COMMANDS), strict=True):
        assert code == 0, (arguments, errors)
        assert output or "0 problems" in errors, arguments


def test_a_command_that_lacks_an_extra_says_the_line_that_installs_it(
    bert: Path, without_models: Callable[..., list[tuple[int, str, str]]]
) -> None:
    commands = {
        ("ingest", str(bert), "--corpus", "words", "--random-init", "1"): "ingest",
        ("partition", str(bert), "--experts", "4"): "analysis",
        ("partition", "tiny-bert", "--method", "function", "--experts", "4"): "analysis",
        ("perturb", str(bert), "--top"): "analysis",
        ("corpus", "build", "huggingface", "some/dataset", "--name", "x"): "hub",
    }
    done = without_models(list(commands))
    for arguments, extra, (code, output, errors) in zip(commands, commands.values(), done, strict=True):
        assert (code, output) == (1, ""), (arguments, errors)
        (line,) = errors.splitlines()
        assert line.startswith("Error: ")
        assert line.endswith(f"pip install 'neuronlake[{extra}]'"), line


def test_an_extra_installs_what_is_missing() -> None:
    known = {name: extra_of(name) for name in (*MISSING, "duckdb", "sqlite3")}
    assert known == {
        **dict.fromkeys(("torch", "transformers", "numba", "scipy"), "ingest"),
        **dict.fromkeys(("sklearn", "k_means_constrained", "pymetis"), "analysis"),
        **dict.fromkeys(("tokenizers", "safetensors", "duckdb", "sqlite3")),
        "datasets": "hub",
        "pandas": "dev",
    }


@pytest.mark.slow
def test_the_base_answers_in_an_environment_of_its_own(store: Path, bert: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    binaries = tmp_path / "venv" / "bin"
    install = [binaries / "pip", "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt", ROOT]
    subprocess.run(install, check=True, cwd=tmp_path)
    environment = {**os.environ, "NEURONLAKE_STORE": str(store)}

    def run(*arguments: str, typed: str = "") -> Process:
        command = [binaries / "neuronlake", *arguments]
        return subprocess.run(
            command, input=typed, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
        )

    assert not list((tmp_path / "venv").glob("lib/*/site-packages/torch"))
    for arguments in COMMANDS:
        done = run(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    assert "42" in run("shell", typed="select 40 + 2 as answer;\n").stdout
    done = run("ingest", str(bert), "--corpus", "words", "--random-init", "1")
    assert done.returncode == 1
    assert done.stderr.endswith("pip install 'neuronlake[ingest]'\n")
