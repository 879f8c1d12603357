"""Every public function and class has an example, and the examples run."""

import doctest
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import neuronlake

NAMES = [
    name
    for name in neuronlake.__all__
    if not (isinstance(value := getattr(neuronlake, name), type) and issubclass(value, Exception))
]
ANIMALS = ("cat", "dog", "bird", "fish")
THINGS = ("tree", "house", "river", "stone")


@pytest.fixture(scope="module")
def prepared(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the examples name: a model, two checkpoints of it, a corpus file and a store."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(tiny_model("bert"), folder / "tiny-bert")
    for step in (1, 2):
        shutil.copytree(tiny_model("bert"), folder / "tiny-series" / f"step{step}")
    rows = [
        {"text": f"the {colour} {word} {place}", "labels": {"task/animal": word in ANIMALS}}
        for word in (*ANIMALS, *THINGS)
        for colour in ("red", "blue", "old")
        for place in ("sat on the mat", "near the city")
    ]
    (folder / "animals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "published.csv").write_text("layer,neuron,score\n0,0,0.9\n0,1,0.6\n1,0,0.7\n1,1,0.8\n")
    store = folder / "neuronlake-store"
    neuronlake.build_corpus(neuronlake.read_table(folder / "animals.jsonl"), "animals", store=store)
    neuronlake.ingest_model(str(folder / "tiny-bert"), corpus="animals", store=store)
    for method in ("function", "random"):
        settings = neuronlake.PartitionSettings(method=method, n_experts=4)
        neuronlake.partition_model("tiny-bert", store=store, settings=settings)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_public_name_run(
    name: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(prepared, tmp_path / "folder"))
    value = getattr(neuronlake, name)
    home = __import__(value.__module__, fromlist=["x"])
    found = doctest.DocTestFinder().find(value, name, module=home, globs={**vars(home), "neuronlake": neuronlake})
    examples = [test for test in found if test.examples]
    assert [test.name for test in examples if test.name == name], f"{name} has no example"
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for test in examples:
        report: list[str] = []
        failed = doctest.DocTestRunner(optionflags=flags).run(test, out=report.append).failed
        assert not failed, "".join(report)
