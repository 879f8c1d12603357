"""Hooks look and change nothing."""

import numpy as np
import pytest
import torch

from neuronlake.errors import IngestError
from neuronlake.ingest import models
from neuronlake.ingest.capture import Spans, capture
from neuronlake.ingest.sites import Site, find_sites

KINDS = ["bert", "roberta", "llama", "gpt2", "t5", "t5-gated"]
POOLINGS = ["max", "mean", "abs_max", "last"]
# Two texts of 12 tokens, the second padded to the right after 5; spans of every kind of length.
ROW = np.array([0, 0, 0, 1, 1])
START = np.array([0, 3, 11, 0, 4])
STOP = np.array([12, 5, 12, 5, 5])


@pytest.fixture(scope="module")
def model(tiny_model):
    loaded: dict[str, models.Model] = {}

    def get(kind: str) -> models.Model:
        if kind not in loaded:
            loaded[kind] = models.load(str(tiny_model(kind)))
        return loaded[kind]

    return get


def sites_of(model: models.Model) -> tuple[Site, ...]:
    return find_sites(model.module, model.config, stack=model.stack, name=model.name)


def inputs() -> dict[str, torch.Tensor]:
    ids = torch.arange(24).reshape(2, 12) % 17 + 4
    mask = torch.ones_like(ids)
    ids[1, 5:], mask[1, 5:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def n_hooks(module: torch.nn.Module) -> int:
    return sum(len(each._forward_pre_hooks) + len(each._forward_hooks) for each in module.modules())


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_the_same_bits_with_and_without_capture(model, kind, pooling):
    loaded = model(kind)
    with torch.inference_mode():
        before = loaded.module(**inputs()).last_hidden_state
        with capture(loaded.module, sites_of(loaded), pooling=pooling) as reading:
            with reading.batch(Spans(ROW, START, STOP), (2, 12)):
                during = loaded.module(**inputs()).last_hidden_state
            outside = loaded.module(**inputs()).last_hidden_state
        after = loaded.module(**inputs()).last_hidden_state
    for found in (during, outside, after):
        assert torch.equal(found, before)
    assert n_hooks(loaded.module) == 0


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_spans_are_pooled_as_asked(model, kind, pooling):
    loaded = model(kind)
    sites = sites_of(loaded)
    hidden = {}

    def keep(index):
        return lambda _, arguments: hidden.__setitem__(index, arguments[0].clone())

    handles = [
        loaded.module.get_submodule(site.module_path).register_forward_pre_hook(keep(index))
        for index, site in enumerate(sites)
    ]
    with torch.inference_mode(), capture(loaded.module, sites, pooling=pooling) as reading:
        with reading.batch(Spans(ROW, START, STOP), (2, 12)):
            loaded.module(**inputs())
        pooled = reading.pooled()
    for handle in handles:
        handle.remove()
    for index, found in enumerate(pooled):
        assert found.shape == (5, 64)
        for instance, (row, start, stop) in enumerate(zip(ROW, START, STOP, strict=True)):
            tokens = hidden[index].reshape(2, 12, 64)[row, start:stop]
            expected = {
                "max": tokens.max(0).values,
                "mean": tokens.mean(0),
                "abs_max": tokens.abs().max(0).values,
                "last": tokens[-1],
            }[pooling]
            if pooling == "mean":
                torch.testing.assert_close(found[instance], expected, atol=1e-6, rtol=1e-6)
            else:
                assert torch.equal(found[instance], expected)


def test_hooks_are_gone_after_an_exception(model):
    loaded = model("bert")
    with (
        pytest.raises(KeyError),
        capture(loaded.module, sites_of(loaded), pooling="max") as reading,
        reading.batch(Spans(ROW, START, STOP), (2, 12)),
    ):
        raise KeyError
    assert n_hooks(loaded.module) == 0
    with torch.inference_mode():
        loaded.module(**inputs())


def test_a_batch_after_one_that_failed_is_read_afresh(model):
    loaded = model("bert")
    with torch.inference_mode(), capture(loaded.module, sites_of(loaded), pooling="max") as reading:
        with pytest.raises(IndexError), reading.batch(Spans(ROW, START, STOP), (2, 12)):
            loaded.module(input_ids=torch.tensor([[10_000]]))
        loaded.module(**inputs())  # outside any batch: not read
        with reading.batch(Spans(ROW[:1], START[:1], STOP[:1]), (2, 12)):
            loaded.module(**inputs())
        assert [tuple(pooled.shape) for pooled in reading.pooled()] == [(1, 64), (1, 64)]


def test_a_module_that_runs_twice_is_refused(model):
    loaded = model("bert")
    with (
        torch.inference_mode(),
        capture(loaded.module, sites_of(loaded), pooling="max") as reading,
        reading.batch(Spans(ROW, START, STOP), (2, 12)),
    ):
        loaded.module(**inputs())
        with pytest.raises(IngestError, match=r"encoder\.layer\.0\.output\.dense ran twice in one forward pass"):
            loaded.module(**inputs())


def test_a_module_that_did_not_run_is_refused(model):
    loaded = model("bert")
    with capture(loaded.module, sites_of(loaded), pooling="max") as reading:
        with reading.batch(Spans(ROW, START, STOP), (2, 12)):
            pass
        with pytest.raises(IngestError, match=r"encoder\.layer\.0\.output\.dense did not run"):
            reading.pooled()


def test_activations_of_another_shape_are_refused(model):
    loaded = model("bert")
    with (
        torch.inference_mode(),
        capture(loaded.module, sites_of(loaded), pooling="max") as reading,
        pytest.raises(IngestError, match=r"received \(2, 12, 64\), not 2 texts x 13 tokens x 64 neurons"),
        reading.batch(Spans(ROW, START, STOP), (2, 13)),
    ):
        loaded.module(**inputs())


def test_tokens_before_texts_are_never_taken_for_texts_before_tokens(model):
    # XLNet runs [tokens, texts]: as many numbers, in another order.
    loaded = model("xlnet")
    seen = []
    sites = sites_of(loaded)
    handle = loaded.module.get_submodule(sites[0].module_path).register_forward_pre_hook(
        lambda _, arguments: seen.append(arguments[0].clone())
    )
    try:
        with torch.inference_mode(), capture(loaded.module, sites, pooling="last") as reading:
            with reading.batch(Spans(ROW, START, STOP), (2, 12)):
                loaded.module(**inputs())
            pooled = reading.pooled()[0]
    except IngestError:
        return  # a clear refusal is as good
    finally:
        handle.remove()
    assert torch.equal(pooled[1], seen[0][4, 0])
