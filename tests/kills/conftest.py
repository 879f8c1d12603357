"""Stores on which every kind of job can be done, and what becomes of jobs that are killed."""

import functools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / ".src"
WORDS = ("cat", "dog", "river", "water", "sat", "ran", "on", "under", "tree", "house")
STEPS = (0, 10, 100)


def sentences() -> list[dict]:
    """Return 80 texts with two functions, of which each half has its share."""
    draw = random.Random(5)
    texts = [(index, draw.choices(WORDS, k=4)) for index in range(80)]
    return [
        {
            "text": f"{index} {' '.join(words)}",
            "labels": ["task/animal"] * bool({"cat", "dog"} & {*words}) + ["task/water"] * ("water" in words),
        }
        for index, words in texts
    ]


@pytest.fixture(scope="session")
def make_job(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict]:
    """Return a function from a kind of job to a store it can be done on and its command line."""
    from click.testing import CliRunner
    from safetensors.torch import load_file, save_file

    from neuronlake.cli import main

    folder = tmp_path_factory.mktemp("jobs")
    bert, corpus, published = tiny_model("bert"), folder / "sentences.jsonl", folder / "published.csv"
    growing = folder / "growing"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in sentences()))
    lines = [f"{layer},{neuron},{neuron / 64},{neuron % 4}\n" for layer in range(2) for neuron in range(64)]
    published.write_text("layer,neuron,score,expert\n" + "".join(lines))

    def do(store: Path, *arguments: object) -> str:
        result = CliRunner().invoke(main, ["--store", str(store), *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.stdout

    @functools.cache
    def store(name: str) -> Path:
        path = folder / name
        match name:
            case "empty":
                path.mkdir()
            case "labelled":
                do(path, "corpus", "add", corpus, "--name", "words")
            case "measured":
                shutil.copytree(store("labelled"), path)
                do(path, "ingest", bert, "--corpus", "words")
                do(path, "partition", "tiny-bert", "--method", "random", "--experts", "4")
            case "unmeasured-series":
                shutil.copytree(store("labelled"), path)
                weights = load_file(bert / "model.safetensors")
                for step in STEPS:
                    shutil.copytree(bert, growing / f"step{step}")
                    grown = {name: each + 0.3 * each.roll(1) * step**0.5 / 10 for name, each in weights.items()}
                    save_file(grown, growing / f"step{step}" / "model.safetensors", {"format": "pt"})
            case "series":
                shutil.copytree(store("unmeasured-series"), path)
                do(path, "ingest", growing, "--revisions", "step*", "--corpus", "words")
        return path

    imported = ("--stack", "encoder", "--family", "task", "--function", "mean", "--score", "score")
    imported = (*imported, "--partition", "expert")
    added = ("--coactivation", "--highlights", "--vocabulary")
    quick = ("--seeds", "2", "--bootstrap", "20", "--permutations", "19")

    def make(kind: str) -> dict:
        name, *arguments = {
            "corpus": ("empty", "corpus", "add", corpus, "--name", "words"),
            "shuffle": ("labelled", "corpus", "shuffle", "words", "--name", "shuffled"),
            "import": ("labelled", "share", "import", published, "--model", "published", *imported),
            "ingest": ("labelled", "ingest", bert, "--corpus", "words", "--batch-tokens", "64", *added),
            "series": ("unmeasured-series", "ingest", growing, "--revisions", "step*", "--corpus", "words"),
            "partition": ("measured", "partition", bert, "--name", "tiny-bert", "--experts", "4"),
            "chance": ("measured", "partition", "tiny-bert", "--method", "random", "--experts", "4", "--seed", "1"),
            "align": ("measured", "align", "", "--permutations", "19"),  # any partition: there is but one
            "materialize": ("measured", "materialize", "specialization"),
            "perturb": ("measured", "perturb", bert, "--top", "--dose", "0.1", *quick),
            "emergence": ("series", "emergence", growing, "--experts", "4", "--random", "2", "--starts", "1"),
        }[kind]
        words = [str(each) for each in arguments]
        return {"name": kind, "store": str(store(name)), "arguments": words}

    return make


@pytest.fixture(scope="session")
def killer(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen]:
    """Return the process that kills jobs, which imports the package once for all of them."""
    errors = tmp_path_factory.mktemp("killer") / "errors"
    with (
        errors.open("w") as stream,
        subprocess.Popen(
            [sys.executable, str(HERE / "kill_points.py"), str(tiny_model("bert"))],
            env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        ) as process,
    ):
        yield process
        process.communicate()
    assert process.returncode == 0, errors.read_text()


@pytest.fixture(scope="session")
def killed(
    make_job: Callable[[str], dict], killer: subprocess.Popen, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int], dict[str, object]]:
    """Return a function that kills a kind of job at so many points and says what became of it."""

    def kill(kind: str, n_points: int) -> dict[str, object]:
        job = make_job(kind) | {"n_points": n_points, "folder": str(tmp_path_factory.mktemp("kills"))}
        assert killer.stdin is not None
        assert killer.stdout is not None
        print(json.dumps(job), file=killer.stdin, flush=True)
        answer = killer.stdout.readline()
        assert answer, "the process that kills jobs has died"
        return json.loads(answer)

    return kill
