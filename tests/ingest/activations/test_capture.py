"""Hooks look and change nothing."""

import itertools

import numpy as np
import pytest
import torch
import transformers

from neuronlake.errors import IngestError
from neuronlake.ingest.activations.capture import capture
from neuronlake.ingest.activations.pooling import Spans
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import Model, load
from neuronlake.ingest.neurons.feed_forwards import Layer
from neuronlake.ingest.neurons.layers import find_layers

KINDS = ["bert", "roberta", "llama", "gpt2", "t5", "t5-gated"]
POOLINGS = ["max", "mean", "abs_max", "last"]
REDUCTIONS = {
    "max": lambda tokens: tokens.max(0).values,
    "mean": lambda tokens: tokens.mean(0),
    "abs_max": lambda tokens: tokens.abs().max(0).values,
    "last": lambda tokens: tokens[-1],
}
# Two texts of 12 tokens, the second padded to the right after 5; spans of every kind of length.
ROW = np.array([0, 0, 0, 1, 1])
START = np.array([0, 3, 11, 0, 4])
STOP = np.array([12, 5, 12, 5, 5])
STACKS = dict.fromkeys(("bert", "roberta", "t5", "t5-gated"), "encoder") | dict.fromkeys(("llama", "gpt2"), "decoder")


@pytest.fixture(scope="module")
def model(tiny_model):
    loaded: dict[str, Model] = {}

    def get(kind: str) -> Model:
        if kind not in loaded:
            loaded[kind] = load(Checkpoint(str(tiny_model(kind))))
        return loaded[kind]

    return get


@pytest.fixture(scope="module")
def mixtral() -> torch.nn.Module:
    config = transformers.MixtralConfig(
        vocab_size=50, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return transformers.AutoModel.from_config(config).eval()


def spans(kind: str, n_tokens: int = 12, first: int = 5) -> dict[str, Spans]:
    return {STACKS.get(kind, "decoder"): Spans(ROW[:first], START[:first], STOP[:first], (2, n_tokens))}


def inputs() -> dict[str, torch.Tensor]:
    ids = torch.arange(24).reshape(2, 12) % 17 + 4
    mask = torch.ones_like(ids)
    ids[1, 5:], mask[1, 5:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def n_hooks(module: torch.nn.Module) -> int:
    return sum(len(each._forward_pre_hooks) + len(each._forward_hooks) for each in module.modules())


def sites_of(kind: str) -> list[str]:
    return ["activation", "preactivation", *(["gate"] if kind in ("llama", "t5-gated") else [])]


def seen_by_hooks(module: torch.nn.Module, layers: tuple[Layer, ...], site: str) -> list[torch.Tensor]:
    """Return what plain hooks see of each layer: [texts, tokens, neurons]."""
    seen: list[torch.Tensor] = []
    handles = []
    for layer in layers:
        (network,) = layer.feed_forwards
        if site == "activation":
            watched, is_output = module.get_submodule(network.path), False
        else:  # the gate is what an input projection yields, before and after the nonlinearity
            watched, is_output = module.get_submodule(network.nonlinearity.path), site == "gate"
        handles.append(
            watched.register_forward_hook(lambda _, x, y, out=is_output: seen.append((y if out else x[0]).clone()))
        )
    with torch.inference_mode():
        module(**inputs())
    for handle in handles:
        handle.remove()
    return seen


CASES = [(kind, site, pooling) for kind in KINDS for site, pooling in itertools.product(sites_of(kind), POOLINGS)]


@pytest.mark.parametrize(("kind", "site", "pooling"), CASES)
def test_outputs_are_the_same_bits_with_and_without_capture(model, kind, site, pooling):
    module, layers = model(kind).module, model(kind).layers()
    with torch.inference_mode():
        before = module(**inputs()).last_hidden_state
        with capture(module, layers, site=site, pooling=pooling) as reading:
            with reading.batch(spans(kind)):
                during = module(**inputs()).last_hidden_state
            outside = module(**inputs()).last_hidden_state
        after = module(**inputs()).last_hidden_state
    for found in (during, outside, after):
        assert torch.equal(found, before)
    assert n_hooks(module) == 0


@pytest.mark.parametrize(("kind", "site", "pooling"), CASES)
def test_spans_are_pooled_as_asked(model, kind, site, pooling):
    module, layers = model(kind).module, model(kind).layers()
    with torch.inference_mode(), capture(module, layers, site=site, pooling=pooling) as reading:
        with reading.batch(spans(kind)):
            module(**inputs())
        pooled = reading.pooled()
        assert reading.routed() == []
    seen = seen_by_hooks(module, layers, site)
    assert len(pooled) == len(seen) == 2
    for found, values in zip(pooled, seen, strict=True):
        assert found.shape == (5, 64)
        for instance, (row, start, stop) in enumerate(zip(ROW, START, STOP, strict=True)):
            expected = REDUCTIONS[pooling](values.reshape(2, 12, 64)[row, start:stop])
            if pooling == "mean":
                torch.testing.assert_close(found[instance], expected, atol=1e-6, rtol=1e-6)
            else:
                assert torch.equal(found[instance], expected)


@pytest.mark.parametrize("kind", ["llama", "t5-gated"])
def test_the_activation_is_the_gate_times_the_up_projection(model, kind):
    module, layers = model(kind).module, model(kind).layers()
    (network,) = layers[0].feed_forwards
    one = {STACKS[kind]: Spans(np.array([0]), np.array([3]), np.array([4]), (2, 12))}
    seen = {}
    up = module.get_submodule(network.input_paths[1])
    handle = up.register_forward_hook(lambda _, __, output: seen.update(up=output[0, 3].clone()))
    for site in ("activation", "gate", "preactivation"):
        with torch.inference_mode(), capture(module, layers, site=site) as reading:
            with reading.batch(one):
                module(**inputs())
            seen[site] = reading.pooled()[0][0]
    handle.remove()
    torch.testing.assert_close(seen["gate"] * seen["up"], seen["activation"])
    nonlinearity = module.get_submodule(network.nonlinearity.path)
    torch.testing.assert_close(nonlinearity(seen["preactivation"]), seen["gate"])


def test_the_gate_of_a_network_that_is_not_gated_is_not_read(model):
    module = model("bert").module
    with pytest.raises(IngestError, match="not gated"), capture(module, model("bert").layers(), site="gate"):
        pass
    assert n_hooks(module) == 0


def test_the_two_halves_of_one_input_projection_are_gate_and_up():
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.Phi3Config(vocab_size=50, pad_token_id=0, bos_token_id=1, eos_token_id=2, **size)
    module = transformers.AutoModel.from_config(config).eval()
    layers = find_layers(module, config, stack="decoder", name="tiny")
    seen = []
    fused = module.layers[0].mlp.gate_up_proj
    handle = fused.register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    read = {}
    for site in ("preactivation", "gate", "activation"):
        with torch.inference_mode(), capture(module, layers, site=site, pooling="last") as reading:
            with reading.batch(spans("phi3")):
                module(**inputs())
            read[site] = reading.pooled()[0]
    handle.remove()
    gate, up = seen[0][ROW, STOP - 1].split(64, dim=1)
    assert torch.equal(read["preactivation"], gate)
    torch.testing.assert_close(read["gate"], torch.nn.functional.silu(gate))
    torch.testing.assert_close(read["activation"], torch.nn.functional.silu(gate) * up)


def test_layers_that_share_weights_are_read_one_by_one():
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    module = transformers.AutoModel.from_config(
        transformers.AlbertConfig(vocab_size=50, embedding_size=16, **size)
    ).eval()
    layers = find_layers(module, module.config, stack="encoder", name="tiny")
    seen = []
    shared = module.get_submodule(layers[0].feed_forwards[0].path)
    handle = shared.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].clone()))
    for chosen in (layers, layers[1:2], layers[::2]):
        with torch.inference_mode(), capture(module, chosen, pooling="last") as reading:
            for _ in range(2):  # calls are counted anew in each batch
                seen.clear()
                with reading.batch({"encoder": Spans(ROW, START, STOP, (2, 12))}):
                    module(**inputs())
            for layer, found in zip(chosen, reading.pooled(), strict=True):
                assert torch.equal(found, seen[layer.layer][ROW, STOP - 1])
    handle.remove()
    assert n_hooks(module) == 0


@pytest.mark.parametrize("kind", ["bert", "t5-gated", "xlnet", "olmoe", "switch"])
@pytest.mark.parametrize("router", ["routed", "blind"])
def test_a_pass_but_the_first_ends_with_the_last_layer_that_is_read(model, kind, router):
    module, (first, last) = model(kind).module, model(kind).layers()
    spans = {first.stack: Spans(ROW, START, STOP, (2, 12))}
    ran = []
    handle = module.get_submodule(last.feed_forwards[0].path).register_forward_pre_hook(
        lambda *_: ran.append(1), with_kwargs=True
    )
    with (
        torch.inference_mode(),
        capture(module, (first,), router=router) as whole,
        capture(module, (first,), router=router, ends_early=True) as reading,
    ):
        for _ in range(2):
            with reading.batch(spans), whole.batch(spans):
                module(**inputs())
        n_ran, ended = len(ran), [*reading.pooled(), *reading.routed()]
        with whole.batch(spans):
            states = module(**inputs())[0]
        for found, expected in zip(ended, [*whole.pooled(), *whole.routed()], strict=True):
            assert torch.equal(found, expected)
    handle.remove()
    assert n_ran == 1
    with torch.inference_mode():
        assert torch.equal(module(**inputs())[0], states)


def test_a_module_that_runs_twice_is_refused_though_passes_end_early(model):
    module, (first, _) = model("bert").module, model("bert").layers()
    with torch.inference_mode(), capture(module, (first,), ends_early=True) as reading, reading.batch(spans("bert")):
        module(**inputs())
        with pytest.raises(IngestError, match=r"encoder\.layer\.0\.output\.dense ran twice in one forward pass"):
            module(**inputs())


def test_hooks_are_gone_after_an_exception(model):
    module = model("bert").module
    with (
        pytest.raises(KeyError),
        capture(module, model("bert").layers()) as reading,
        reading.batch(spans("bert")),
    ):
        raise KeyError
    assert n_hooks(module) == 0
    with torch.inference_mode():
        module(**inputs())


def test_hooks_are_gone_after_layers_of_another_model(model):
    module = model("bert").module
    with pytest.raises(AttributeError), capture(module, model("llama").layers()):
        pass
    assert n_hooks(module) == 0


def test_a_batch_after_one_that_failed_is_read_afresh(model):
    module = model("bert").module
    with torch.inference_mode(), capture(module, model("bert").layers()) as reading:
        with pytest.raises(IndexError), reading.batch(spans("bert")):
            module(input_ids=torch.tensor([[10_000]]))
        module(**inputs())  # outside any batch: not read
        with reading.batch(spans("bert", first=1)):
            module(**inputs())
        assert [tuple(pooled.shape) for pooled in reading.pooled()] == [(1, 64), (1, 64)]


def test_a_module_that_runs_twice_is_refused(model):
    module = model("bert").module
    with (
        torch.inference_mode(),
        capture(module, model("bert").layers()) as reading,
        reading.batch(spans("bert")),
    ):
        module(**inputs())
        with pytest.raises(IngestError, match=r"encoder\.layer\.0\.output\.dense ran twice in one forward pass"):
            module(**inputs())


@pytest.mark.parametrize("router", ["routed", "blind"])
def test_experts_that_run_twice_are_refused(mixtral, router):
    layers = find_layers(mixtral, mixtral.config, stack="decoder", name="tiny")
    with (
        torch.inference_mode(),
        capture(mixtral, layers, router=router) as reading,
        reading.batch(spans("mixtral")),
    ):
        mixtral(**inputs())
        with pytest.raises(IngestError, match=r"layers\.0\.mlp\.experts ran twice"):
            mixtral(**inputs())


def test_a_module_that_did_not_run_is_refused(model):
    module = model("bert").module
    with capture(module, model("bert").layers()) as reading:
        with reading.batch(spans("bert")):
            pass
        with pytest.raises(IngestError, match=r"encoder\.layer\.0\.output\.dense did not run"):
            reading.pooled()


@pytest.mark.parametrize("router", ["routed", "blind"])
def test_experts_that_did_not_run_are_refused(mixtral, router):
    layers = find_layers(mixtral, mixtral.config, stack="decoder", name="tiny")
    with capture(mixtral, layers, router=router) as reading:
        with reading.batch(spans("mixtral")):
            pass
        with pytest.raises(IngestError, match=r"layers\.0\.mlp\.experts did not run"):
            reading.pooled()


@pytest.mark.parametrize("n_tokens", [13, 11])
def test_activations_of_another_shape_are_refused(model, n_tokens):
    module = model("bert").module
    with (
        torch.inference_mode(),
        capture(module, model("bert").layers()) as reading,
        pytest.raises(IngestError, match=rf"received \(2, 12, 64\), not 2 texts x {n_tokens} tokens x 64 neurons"),
        reading.batch(spans("bert", n_tokens)),
    ):
        module(**inputs())


@pytest.mark.parametrize("router", ["routed", "blind"])
@pytest.mark.parametrize("n_tokens", [13, 11])
def test_rows_of_experts_of_another_number_of_tokens_are_refused(mixtral, n_tokens, router):
    # Otherwise rows would count for tokens of another text.
    layers = find_layers(mixtral, mixtral.config, stack="decoder", name="tiny")
    with (
        torch.inference_mode(),
        capture(mixtral, layers, router=router) as reading,
        pytest.raises(IngestError, match=r"layers\.0\.mlp\.experts"),
        reading.batch(spans("mixtral", n_tokens)),
    ):
        mixtral(**inputs())


@pytest.mark.parametrize("site", ["activation", "preactivation"])
def test_tokens_before_texts_are_never_taken_for_texts_before_tokens(model, site):
    # XLNet runs [tokens, texts]: as many numbers, in another order.
    module, layers = model("xlnet").module, model("xlnet").layers()
    stack = layers[0].stack
    seen = seen_by_hooks(module, layers, site)
    with torch.inference_mode(), capture(module, layers, site=site, pooling="last") as reading:
        with reading.batch({stack: Spans(ROW, START, STOP, (2, 12))}):
            module(**inputs())
        for found, values in zip(reading.pooled(), seen, strict=True):
            assert torch.equal(found, values[STOP - 1, ROW])
