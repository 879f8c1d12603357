"""Mixtures of experts through what a job survives: little memory, being cut into parts, experts nobody is sent to."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.jobs import sinks
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Resources
from neuronlake.schema.store import Store

UNCHOSEN = 3


@pytest.fixture
def targeted(spans) -> list[Instance]:
    """Return spans of texts that all have a target."""
    return [Instance(each.text, each.labels, start=each.start, end=each.end, target="the cat sat") for each in spans]


@pytest.fixture
def measured(tmp_path, tiny_model, make_corpus, targeted, contents, read_rows) -> Callable[..., dict[str, list[dict]]]:
    """Return a function that measures a Switch Transformer in a store of its own, and reads every table."""

    def run(name: str, resources: Resources | None = None) -> dict[str, list[dict]]:
        store = Store(tmp_path / name)
        make_corpus(store, targeted)
        ingest_model(str(tiny_model("switch")), corpus="test", store=store.path, resources=resources)
        return {**contents(store), "routing": read_rows(store, "routing")}

    return run


@pytest.fixture
def without_one(tiny_model, tmp_path) -> Path:
    """Return a folder with a Switch Transformer whose routers rather choose the first expert than the last."""
    folder = tmp_path / "without-one"
    shutil.copytree(tiny_model("switch"), folder)
    tensors = load_file(folder / "model.safetensors")
    for name, weight in tensors.items():
        if name.endswith("router.classifier.weight"):
            weight[UNCHOSEN] = weight[0]  # the first of equals is chosen
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("memory_bytes", [1, 40_000])
def test_spilling_to_disk_changes_no_table_of_a_mixture(measured, memory_bytes):
    assert measured("spilling", Resources(memory_bytes=memory_bytes)) == measured("whole")


def test_cutting_the_job_into_parts_changes_no_table_of_a_mixture(measured, monkeypatch):
    whole = measured("whole")
    monkeypatch.setattr(sinks, "PART_ROWS", 1)
    assert measured("parted") == whole
    assert len({row["stack"] for row in whole["routing"]}) == 2


def test_an_expert_that_is_never_chosen_detects_nothing(store, make_corpus, targeted, without_one, read_rows):
    make_corpus(store, targeted)
    ingest_model(str(without_one), corpus="test", store=store.path)
    unchosen = {
        (row["stack"], row["layer"], row["neuron"])
        for row in read_rows(store, "neurons")
        if row["native_expert"] == UNCHOSEN
    }
    neurons = [row for row in read_rows(store, "neurons") if row["native_expert"] == UNCHOSEN]
    assert len(unchosen) == 2 * 64
    assert {(row["n_routed"], row["min"], row["max"], row["firing_rate"]) for row in neurons} == {(0, 0, 0, 0)}
    prevalence = {(row["family"], row["function"]): row["prevalence"] for row in read_rows(store, "run_functions")}
    scored = [
        row for row in read_rows(store, "neuron_functions") if (row["stack"], row["layer"], row["neuron"]) in unchosen
    ]
    scored += [row for row in read_rows(store, "routing") if row["native_expert"] == UNCHOSEN]
    assert len(scored) == (2 * 64 + 2) * len(prevalence)
    for row in scored:
        chance = prevalence[row["family"], row["function"]]
        assert (row["ap"], row["ap_complement"], row["auroc"]) == pytest.approx((chance, 1 - chance, 0.5), abs=1e-6)
