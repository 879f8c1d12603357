"""Every public function and class has an example, and the examples run."""

import doctest
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch

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
    for step in (1, 2, 4):
        checkpoint = shutil.copytree(tiny_model("bert"), folder / "tiny-series" / f"step{step}") / "model.safetensors"
        tensors = safetensors.torch.load_file(checkpoint)
        changed = {name: tensor * (1 + tensor.sin() / step) for name, tensor in tensors.items()}
        safetensors.torch.save_file(changed, checkpoint, metadata={"format": "pt"})
    rows = [
        {"text": f"the {colour} {word} {place}", "labels": {"task/animal": word in ANIMALS}}
        for word in (*ANIMALS, *THINGS)
        for colour in ("red", "blue", "old", "new", "green")
        for place in ("sat on the mat", "near the city")
    ]
    (folder / "animals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for topic, text in (("sport", "A goal."), ("tech", "A chip.")):
        (folder / "news" / topic).mkdir(parents=True)
        (folder / "news" / topic / "1.txt").write_text(text)
    words = (("The", "DET", 2, "det"), ("cat", "NOUN", 3, "nsubj"), ("sat", "VERB", 0, "root"))
    lines = [f"{n}\t{w}\t{w}\t{tag}\t_\t_\t{head}\t{name}\t_\t_" for n, (w, tag, head, name) in enumerate(words, 1)]
    (folder / "treebank.conllu").write_text("\n".join(["# sent_id = 1", "# text = The cat sat", *lines, "", ""]))
    (folder / "semcor3.0" / "brown1" / "tagfiles").mkdir(parents=True)
    (folder / "semcor3.0" / "brown1" / "tagfiles" / "br-a01").write_text(
        "<contextfile concordance=brown>\n<context filename=br-a01 paras=yes>\n<p pnum=1>\n<s snum=1>\n"
        "<wf cmd=done pos=NN lemma=cat wnsn=1 lexsn=1:05:00::>cat</wf>\n</s>\n</p>\n</context>\n</contextfile>\n"
    )
    facts = [{"sub_label": subject, "obj_label": value} for subject, value in (("France", "Paris"), ("Peru", "Lima"))]
    (folder / "trex").mkdir()
    (folder / "trex" / "P36.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    reviews = [{"text": "A joy.", "label": "good"}, {"text": "A bore.", "label": "bad"}]
    (folder / "reviews.jsonl").write_text("".join(json.dumps(review) + "\n" for review in reviews))
    (folder / "published.csv").write_text("layer,neuron,score\n0,0,0.9\n0,1,0.6\n1,0,0.7\n1,1,0.8\n")
    store = folder / "neuronlake-store"
    neuronlake.build_corpus(neuronlake.read_table(folder / "animals.jsonl"), "animals", store=store)
    neuronlake.ingest_model(str(folder / "tiny-bert"), corpus="animals", store=store)
    for method, model in (("function", "tiny-bert"), ("kmeans", str(folder / "tiny-bert"))):
        settings = neuronlake.PartitionSettings(method=method, n_experts=4)
        neuronlake.partition_model(model, store=store, settings=settings)
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
