"""Mixtures of experts from end to end: what a run stores, against the router and the experts written out."""

import functools
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Resources, Settings
from neuronlake.schema.store import Store

N_EXPERTS, WIDTH = 4, 64


@dataclass(frozen=True, slots=True)
class Expected:
    """What one layer's experts hold.

    Parameters
    ----------
    activations
        Pooled over each instance's tokens. [experts * width, instances]
    shares
        Of each instance's tokens, those that the router sends to an expert. [experts, instances]
    """

    activations: np.ndarray
    shares: np.ndarray


@pytest.fixture(scope="module")
def switch(tiny_model, tmp_path_factory) -> Path:
    """Return a folder with a Switch Transformer that was trained, for a few seconds, to repeat what it reads."""
    from transformers import AutoTokenizer, SwitchTransformersForConditionalGeneration

    words = [
        f"{first} {second}" for first in ("red", "blue", "old") for second in ("cat", "dog", "king", "song", "sat")
    ]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("switch"))
    draw = random.Random(3)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = SwitchTransformersForConditionalGeneration.from_pretrained(tiny_model("switch"))
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(150):
            texts = [" ".join(draw.sample(words, 3)) for _ in range(16)]
            batch = tokenizer(texts, return_tensors="pt")
            loss = model(**batch, labels=batch["input_ids"]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10]), "the fixture has learned nothing"
    folder = tmp_path_factory.mktemp("trained") / "switch"
    shutil.copytree(tiny_model("switch"), folder)
    model.eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tiny_model, switch) -> Callable[[str], Path]:
    return lambda kind: switch if kind == "switch" else tiny_model(kind)


def olmoe_layer(model, layer: int, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which experts see each token [tokens, experts], and all on all tokens [tokens, experts, width]."""
    block = model.layers[layer].mlp
    chosen = (hidden @ block.gate.weight.T).topk(2, dim=-1).indices
    gate, up = torch.einsum("th,efh->tef", hidden, block.experts.gate_up_proj).chunk(2, dim=-1)
    return torch.nn.functional.one_hot(chosen, N_EXPERTS).sum(1).bool(), torch.nn.functional.silu(gate) * up


def switch_layer(model, layer: int, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Do the same for Switch: one expert a token, and of a text no more tokens to an expert than its capacity of 3."""
    block = model.encoder.block[layer].layer[1].mlp
    chosen = torch.nn.functional.one_hot((hidden @ block.router.classifier.weight.T).argmax(-1), N_EXPERTS)
    is_sent = (chosen * (chosen.cumsum(0) <= 3)).bool()
    experts = [torch.relu(hidden @ block.experts[f"expert_{index}"].wi.weight.T) for index in range(N_EXPERTS)]
    return is_sent, torch.stack(experts, 1)


# Of each kind: its layer that has experts, the module whose input they read, and the arithmetic.
EXPERTS = {
    "olmoe": (1, "layers.1.mlp", olmoe_layer),
    "switch": (1, "encoder.block.1.layer.1.mlp", switch_layer),
}


@pytest.fixture(scope="module")
def recomputed(folder, spans) -> Callable[[str, str], Expected]:
    """Return a function that measures the spans again, once for each kind of model and way to read its experts."""
    return functools.cache(lambda kind, router: recompute(folder(kind), kind, spans, router))


@pytest.fixture(scope="module")
def measured(folder, corpus_of_spans, tmp_path_factory) -> Callable[[str, str], Store]:
    """Return a function to a store in which a kind of model is measured on the spans, made once; not to be written."""

    def make(kind: str, router: str) -> Store:
        store = Store(shutil.copytree(corpus_of_spans, tmp_path_factory.mktemp("measured") / "store"))
        ingest_model(str(folder(kind)), corpus="test", store=store.path, settings=Settings(router=router))
        return store

    return functools.cache(make)


def recompute(folder: Path, kind: str, instances: list[Instance], router: str) -> Expected:
    """Measure instances again, one text at a time, without padding."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    layer, path, arithmetic = EXPERTS[kind]
    seen: list[torch.Tensor] = []
    model.get_submodule(path).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    body = model.encoder if kind == "switch" else model
    activations, shares = [], []
    for instance in instances:
        encoded = tokenizer(instance.text, return_offsets_mapping=True, return_special_tokens_mask=True)
        with torch.no_grad():
            body(torch.tensor([encoded["input_ids"]]))
            is_sent, values = arithmetic(model, layer, seen.pop())
        if router == "routed":
            values = values * is_sent[..., None]
        start, end = (0, len(instance.text)) if instance.start is None else (instance.start, instance.end)
        tokens = [
            index
            for index, (first, last) in enumerate(encoded["offset_mapping"])
            if not encoded["special_tokens_mask"][index] and first < end and last > start
        ]
        activations.append(values[tokens].amax(0).flatten().numpy())
        shares.append(is_sent[tokens].float().mean(0).numpy())
    return Expected(np.array(activations).T, np.array(shares).T)


@pytest.fixture(params=["routed", "blind"])
def router(request) -> str:
    return request.param


@pytest.mark.parametrize("kind", EXPERTS)
def test_a_run_stores_what_router_and_experts_compute(filled, recomputed, folder, kind, router, read_rows):
    settings = Settings(router=router)
    # One text a batch, as in the recomputation: matrix products of the same shapes round the same way.
    alone = Resources(batch_tokens=1)
    ingest_model(str(folder(kind)), corpus="test", store=filled.path, settings=settings, resources=alone)
    expected = recomputed(kind, router)
    layer, _, _ = EXPERTS[kind]
    neurons = [row for row in read_rows(filled, "neurons") if row["layer"] == layer]
    assert [row["native_expert"] for row in neurons] == [expert for expert in range(N_EXPERTS) for _ in range(WIDTH)]
    assert [row["neuron"] for row in neurons] == list(range(N_EXPERTS * WIDTH))
    scale = float(abs(expected.activations).max())
    for name, wanted in {
        "mean": expected.activations.mean(1),
        "std": expected.activations.std(1),
        "min": expected.activations.min(1),
        "max": expected.activations.max(1),
    }.items():
        np.testing.assert_allclose([row[name] for row in neurons], wanted, rtol=0, atol=1e-6 * scale, err_msg=name)
    n_routed = np.repeat((expected.shares > 0).sum(1), WIDTH)
    assert [row["n_routed"] for row in neurons] == n_routed.tolist()
    (run,) = read_rows(filled, "runs")
    assert run["router"] == router
    layers = {row["layer"]: row["n_native_experts"] for row in read_rows(filled, "layers")}
    assert layers[layer] == N_EXPERTS
    assert layers[0] == (N_EXPERTS if kind == "olmoe" else None), "Switch's first layer is dense"


@pytest.mark.parametrize("kind", EXPERTS)
def test_scores_are_sklearns_on_what_is_recomputed(measured, recomputed, spans, kind, router, read_rows):
    expected = recomputed(kind, router)
    layer, _, _ = EXPERTS[kind]
    rows = [
        row
        for row in read_rows(measured(kind, router), "neuron_functions")
        if row["layer"] == layer and (row["family"], row["function"]) == ("semantic", "long")
    ]
    labels = np.array([bool(instance.labels.get("semantic/long", False)) for instance in spans])
    differences = []
    for row in rows[:: 7 if router == "routed" else 29]:
        # Values that differ by rounding alone may change places; rounded, they are tied on both sides.
        values = expected.activations[row["neuron"]]
        assert abs(row["mean_positive"] - values[labels].mean()) < 1e-5 * max(1, abs(values).max())
        differences.append(abs(row["ap"] - average_precision_score(labels, values)))
    assert np.median(differences) < 1e-6
    assert max(differences) < 5e-3


@pytest.mark.parametrize("kind", EXPERTS)
def test_routing_is_how_often_the_router_chooses_an_expert(measured, recomputed, spans, kind, read_rows):
    expected = recomputed(kind, "routed")
    layer, _, _ = EXPERTS[kind]
    rows = [row for row in read_rows(measured(kind, "routed"), "routing") if row["layer"] == layer]
    functions = {(row["family"], row["function"]) for row in rows}
    assert functions == {("semantic", "long"), ("semantic", "drawn"), ("task", "whole")}
    assert len(rows) == N_EXPERTS * len(functions)
    for row in rows:
        labels = np.array([bool(each.labels.get(f"{row['family']}/{row['function']}", False)) for each in spans])
        share = expected.shares[row["native_expert"]]
        assert row["share_positive"] == pytest.approx(share[labels].mean(), abs=1e-6)
        assert row["share_negative"] == pytest.approx(share[~labels].mean(), abs=1e-6)
        assert row["ap"] == pytest.approx(average_precision_score(labels, share), abs=1e-6)
        assert row["auroc"] == pytest.approx(roc_auc_score(labels, share), abs=1e-6)


def test_shares_sum_to_the_experts_a_token_is_sent_to(measured, read_rows):
    sums: dict[tuple[object, ...], list[float]] = {}
    for row in read_rows(measured("olmoe", "routed"), "routing"):
        total = sums.setdefault((row["layer"], row["family"], row["function"]), [0.0, 0.0])
        total[0] += row["share_positive"]
        total[1] += row["share_negative"]
    assert len(sums) == 2 * 3
    assert all(total == pytest.approx([2, 2], abs=1e-6) for total in sums.values())


def test_an_instance_no_token_of_which_is_sent_to_an_expert_scores_0(filled, recomputed, spans, switch, read_rows):
    ingest_model(str(switch), corpus="test", store=filled.path, settings=Settings(pooling="mean", n_top=400))
    expected = recomputed("switch", "routed")
    unsent = expected.shares == 0  # [experts, instances]
    assert unsent.any(), "every instance reaches every expert, so that the test shows nothing"
    by_instance = {row["instance_id"]: row["text_id"] for row in read_rows(filled, "instances")}
    tops = [row for row in read_rows(filled, "top_instances") if row["layer"] == 1]
    assert len(by_instance) == len(spans)
    for row in tops:  # those at a neuron's minimum, which is 0 here, are left out
        assert not unsent[row["neuron"] // WIDTH, row["instance_id"]]
        assert row["value"] > 0


def test_how_experts_are_read_is_part_of_what_a_run_is(filled, tiny_model):
    run_ids = {
        ingest_model(str(tiny_model(kind)), corpus="test", store=filled.path, settings=Settings(router=router)).run_id
        for kind in ("olmoe", "bert")
        for router in ("routed", "blind")
    }
    assert len(run_ids) == 3, "two of the mixture; of a dense model there is one, however asked for"


@pytest.mark.parametrize("kind", EXPERTS)
def test_results_do_not_depend_on_the_batch(measured, filled, folder, kind, router, read_rows):
    settings, alone = Settings(router=router), Resources(batch_tokens=1)
    ingest_model(str(folder(kind)), corpus="test", store=filled.path, settings=settings, resources=alone)
    many, one = (read_rows(each, "neurons") for each in (measured(kind, router), filled))
    for name in ("mean", "std", "max"):
        values = np.array([row[name] for row in one])
        np.testing.assert_allclose([row[name] for row in many], values, rtol=0, atol=1e-5 * abs(values).max())
    assert [row["n_routed"] for row in many] == [row["n_routed"] for row in one]
