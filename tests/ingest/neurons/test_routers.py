"""Routers choose the best of the experts that are left, and are themselves again afterwards."""

import contextlib
import copy
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from architectures import zoo_configs
from architectures.zoo_experts import EXPERTS
from neuronlake.errors import IngestError
from neuronlake.ingest.models.model import stack_parts
from neuronlake.ingest.neurons.experts import exclude_experts
from neuronlake.ingest.neurons.feed_forwards import Layer
from neuronlake.ingest.neurons.layers import find_layers

# Whose experts cannot be distinguished, whatever is done with them.
UNREAD = {"dbrx", "inkling_text", "jetmoe", "llama4_text", "longcat_flash"}
# Whose routers cannot be kept from an expert, and what is said of it.
REFUSED = {
    "deepseek_v4": r"layers\.0\.mlp\.experts: its router chose expert 0 although",  # by a table of tokens
    "nllb-moe": r"layers\.1\.ffn\.experts: its router chose expert 0 although",  # read amiss by transformers
    "zaya": r"layers\.0\.mlp\.experts: its router is not the one module beside it .* \(found: none\)",
}
KINDS = sorted(set(EXPERTS) - UNREAD - set(REFUSED))


@functools.cache
def tiny(kind: str) -> tuple[nn.Module, tuple[Layer, ...], dict[str, Tensor]]:
    """Return a tiny model, its layers that have experts, and what it is called with."""
    config, model = zoo_configs.tiny(kind)
    body, parts = stack_parts(model, with_decoder=config.is_encoder_decoder)
    layers = tuple(
        layer
        for part in parts
        for layer in find_layers(body, part.config, stack=part.stack, name=kind, root=part.path)
        if layer.experts
    )
    return body, layers, zoo_configs.inputs(kind, config)


def run(module: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.inference_mode():
        return module(**inputs)[0]


@contextlib.contextmanager
def excluding(module: nn.Module, layers: tuple[Layer, ...], *experts: int) -> Iterator[None]:
    with contextlib.ExitStack() as undo:
        for layer in layers:
            undo.enter_context(exclude_experts(module, layer, experts))
        yield


@contextlib.contextmanager
def watching(module: nn.Module, layers: tuple[Layer, ...]) -> Iterator[dict[str, set[int]]]:
    """Note which experts of a layer are run, by path."""
    chosen: dict[str, set[int]] = defaultdict(set)

    def look(path: str, *, is_mask: bool) -> Callable[..., None]:
        def note(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            choice = arguments[1].nonzero()[:, -1] if is_mask else arguments[1]
            chosen[path].update(choice.flatten().tolist())

        return note

    with contextlib.ExitStack() as undo:
        for layer in layers:
            experts = module.get_submodule(layer.experts.path)
            hook = look(layer.experts.path, is_mask=isinstance(experts, nn.ModuleDict))
            undo.callback(experts.register_forward_pre_hook(hook).remove)
        yield chosen


def assert_clean(module: nn.Module) -> None:
    for each in module.modules():
        assert "forward" not in vars(each)
        assert not each._forward_pre_hooks
        assert not each._forward_hooks
    assert torch._C._len_torch_function_stack() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_excluded_experts_are_never_chosen_and_nothing_stays(kind):
    module, layers, inputs = tiny(kind)
    with watching(module, layers) as chosen:
        before = run(module, inputs)
    busy = [max(chosen[layer.experts.path]) for layer in layers]
    with contextlib.ExitStack() as undo:
        for layer, expert in zip(layers, busy, strict=True):
            undo.enter_context(exclude_experts(module, layer, [expert]))
        with watching(module, layers) as left:
            during = run(module, inputs)
    for layer, expert in zip(layers, busy, strict=True):
        assert left[layer.experts.path], "nothing was chosen"
        assert expert not in left[layer.experts.path]
    assert torch.isfinite(during).all()
    assert not torch.allclose(during, before, atol=1e-4)
    assert torch.equal(run(module, inputs), before)
    assert_clean(module)


@pytest.mark.parametrize("kind", REFUSED)
def test_routers_that_cannot_be_kept_from_an_expert_are_refused(kind):
    module, layers, inputs = tiny(kind)
    before = run(module, inputs)
    with pytest.raises(IngestError, match=REFUSED[kind]), excluding(module, layers, 0):
        run(module, inputs)
    assert torch.equal(run(module, inputs), before)
    assert_clean(module)


def cut(block: nn.Module, expert: int) -> None:
    """Take an expert out of a block with four: its weights, its row of the router, and its number."""
    for module in block.modules():
        tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        for name, values in tensors.items():
            for axis, size in enumerate(values.shape):
                if size == 4:
                    kept = torch.cat(
                        [values.narrow(axis, 0, expert), values.narrow(axis, expert + 1, 3 - expert)], axis
                    )
                    is_weight = isinstance(values, nn.Parameter)
                    setattr(module, name, nn.Parameter(kept.detach()) if is_weight else kept)
        for name in ("num_experts", "n_routed_experts", "num_local_experts"):
            if getattr(module, name, None) == 4:
                setattr(module, name, 3)
        if isinstance(module, nn.ModuleDict):  # Switch
            names = list(module)
            members = [module[name] for place, name in enumerate(names) if place != expert]
            module.clear()
            module.update(dict(zip(names, members, strict=False)))


# With a softmax over all experts or over the chosen, normalised or not; with biases of the logits, of the choice; with
# a capacity; with groups of which there is one.
CUT = (
    *("olmoe", "mixtral", "qwen2_moe", "qwen3_moe", "qwen3_next", "gpt_oss", "jamba", "phimoe", "aria_text", "flint"),
    *("ernie4_5_moe", "glm4_moe", "dots1", "afmoe", "hy_v3", "lfm2_moe", "minimax_m2", "kolibri1", "nemotron_h"),
    *("gemma4_text:moe", "hunyuan_v1_moe", "granitemoe", "switch_transformers"),
)


@pytest.mark.parametrize("expert", [0, 2])
@pytest.mark.parametrize("kind", CUT)
def test_the_model_computes_as_if_the_expert_had_been_cut_out(kind, expert):
    module, layers, inputs = tiny(kind)
    smaller = copy.deepcopy(module)
    for layer in layers:
        cut(smaller.get_submodule(layer.experts.path.rpartition(".")[0]), expert)
    expected = run(smaller, inputs)
    with excluding(module, layers, expert):
        found = run(module, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["deepseek_v3", "glm_moe_dsa", "axk1", "axk2"])
def test_groups_are_chosen_as_if_the_experts_correction_were_the_lowest(kind):
    module, layers, inputs = tiny(kind)
    corrected = copy.deepcopy(module)
    for layer in layers:
        gate = corrected.get_submodule(layer.experts.path.rpartition(".")[0]).gate
        gate.e_score_correction_bias[[1, 6]] = -1e9
    expected = run(corrected, inputs)
    assert not torch.allclose(run(module, inputs), expected, atol=1e-3)
    with excluding(module, layers, 1, 6):
        found = run(module, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_scores_that_a_router_raises_to_0_again_are_not_chosen():
    # A.X-K2 sets the scores of groups that are not chosen to 0; with these corrections, that is above all others.
    module, layers, inputs = copy.deepcopy(tiny("axk2"))
    for layer in layers:
        module.get_submodule(layer.experts.path.rpartition(".")[0]).gate.e_score_correction_bias.fill_(-2)
    with watching(module, layers) as chosen:
        run(module, inputs)
    with excluding(module, layers, 0), watching(module, layers) as left:
        run(module, inputs)
    assert all(0 in chosen[layer.experts.path] and 0 not in left[layer.experts.path] for layer in layers)


def test_other_layers_choose_as_before():
    module, layers, inputs = tiny("mixtral")
    outputs: list[Tensor] = []
    handle = module.layers[1].register_forward_hook(lambda _, __, output: outputs.append(output.clone()))
    run(module, inputs)
    with excluding(module, layers[2:], 0):
        run(module, inputs)
    with excluding(module, layers[1:2], 0):
        run(module, inputs)
    handle.remove()
    before, later, here = outputs
    assert torch.equal(before, later)
    assert not torch.allclose(before, here, atol=1e-3)


def test_excluding_none_leaves_the_same_bits():
    module, layers, inputs = tiny("qwen2_moe")
    before = run(module, inputs)
    with excluding(module, layers):
        assert_clean(module)
        assert torch.equal(run(module, inputs), before)


def test_excluding_an_expert_that_is_not_chosen_leaves_the_choice():
    module, layers, inputs = tiny("gpt_oss")  # weights are a softmax over the chosen
    one = {name: values[:1, :1] for name, values in inputs.items()}
    with watching(module, layers) as chosen:
        before = run(module, one)
    with contextlib.ExitStack() as undo:
        for layer in layers:
            idle = min(set(range(4)) - chosen[layer.experts.path])
            undo.enter_context(exclude_experts(module, layer, [idle]))
        assert torch.equal(run(module, one), before)


def test_exclusions_within_one_another_both_act():
    module, layers, inputs = tiny("olmoe")
    with excluding(module, layers, 0, 2):
        expected = run(module, inputs)
    with excluding(module, layers, 0):
        outer = run(module, inputs)
        with excluding(module, layers, 2):
            found = run(module, inputs)
        assert torch.equal(run(module, inputs), outer)
    assert torch.equal(found, expected)
    assert not torch.equal(found, outer)
    assert_clean(module)


def test_the_model_is_itself_after_an_exception_inside_the_router():
    module, layers, inputs = copy.deepcopy(tiny("mixtral"))
    before = run(module, inputs)
    module.layers[1].mlp.gate.top_k = 5
    with pytest.raises(RuntimeError, match="out of range"), excluding(module, layers, 0):
        run(module, inputs)
    module.layers[1].mlp.gate.top_k = 2
    assert torch.equal(run(module, inputs), before)
    assert_clean(module)


def test_a_forward_that_a_router_was_given_before_is_kept():
    module, layers, inputs = copy.deepcopy(tiny("mixtral"))
    gate = module.layers[0].mlp.gate
    calls = []
    own = gate.forward
    gate.forward = given = lambda hidden: calls.append(hidden.shape) or own(hidden)
    with excluding(module, layers, 0):
        run(module, inputs)
    assert len(calls) == 1
    assert vars(gate)["forward"] is given


def test_gradients_flow_to_what_is_left_and_none_to_what_is_excluded():
    module, layers, inputs = copy.deepcopy(tiny("olmoe"))
    with excluding(module, layers, 1):
        module(**inputs)[0].sum().backward()
    gate = module.layers[2].mlp.gate.weight.grad
    assert gate[[0, 2, 3]].abs().sum() > 0
    assert (gate[1] == 0).all()
    assert all(torch.isfinite(each.grad).all() for each in module.parameters() if each.grad is not None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["olmoe", "glm4_moe", "phimoe", "gpt_oss"])
def test_half_precision_has_a_lowest_score_too(kind, dtype):
    module, layers, inputs = copy.deepcopy(tiny(kind))
    module.to(dtype)
    with excluding(module, layers, 0, 3), watching(module, layers) as chosen:
        assert torch.isfinite(run(module, inputs)).all()
    assert all(chosen[layer.experts.path] == {1, 2} for layer in layers)


def test_a_network_as_wide_as_there_are_experts_is_not_taken_for_the_router():
    config, _ = zoo_configs.tiny("qwen2_moe")
    config.shared_expert_intermediate_size = config.num_experts  # as in Qwen3-Next, 512 each
    module = type(tiny("qwen2_moe")[0])(config).eval()
    layers = tuple(layer for layer in find_layers(module, config, stack="decoder", name="tiny") if layer.experts)
    inputs = zoo_configs.inputs("qwen2_moe", config)
    outputs: list[Tensor] = []
    module.layers[1].mlp.shared_expert.register_forward_hook(lambda _, __, output: outputs.append(output))
    run(module, inputs)
    with excluding(module, layers, 0), watching(module, layers) as chosen:
        run(module, inputs)
    assert torch.equal(*outputs)
    assert all(0 not in chosen[layer.experts.path] for layer in layers)


def test_two_modules_that_may_be_the_router_are_refused():
    module, layers, _ = copy.deepcopy(tiny("mixtral"))
    module.layers[1].mlp.second = nn.Linear(32, 4)
    with (
        pytest.raises(IngestError, match=r"\(found: layers\.1\.mlp\.gate\.weight, layers\.1\.mlp\.second\.weight\)"),
        excluding(module, layers, 0),
    ):
        pytest.fail("is refused before anything runs")
    assert_clean(module)


def test_a_router_that_is_no_module_of_its_own_is_refused():
    module, layers, _ = copy.deepcopy(tiny("mixtral"))
    block = module.layers[1].mlp
    block.gate = None
    block.router = nn.Parameter(torch.zeros(4, 32))
    with (
        pytest.raises(IngestError, match=r"^layers\.1\.mlp\.experts: .* \(found: layers\.1\.mlp\.router\)"),
        excluding(module, layers, 0),
    ):
        pytest.fail("is refused before anything runs")
    assert_clean(module)


@pytest.mark.parametrize(
    ("kind", "experts", "message"),
    [
        (
            "mixtral",
            (0, 1, 3),
            r"^layers\.0\.mlp\.experts: 1 of 4 experts are left, its router sends a token to 2; leave 2 at least$",
        ),
        ("aria_text", (0, 1, 3), "1 of 4 experts are left, its router sends a token to 2"),
        ("gemma4_text:moe", (0, 1, 3), "1 of 4 experts are left, its router sends a token to 2"),
        ("switch_transformers", (0, 1, 2, 3), "0 of 4 experts are left, its router sends a token to 1"),
    ],
)
def test_experts_that_cannot_be_excluded_are_refused_before_anything_runs(kind, experts, message):
    module, layers, _ = tiny(kind)
    with pytest.raises(IngestError, match=message), excluding(module, layers, *experts):
        pytest.fail("is refused before anything runs")
    assert_clean(module)


def test_as_many_experts_may_be_left_as_a_token_is_sent_to():
    module, layers, inputs = tiny("switch_transformers")
    with excluding(module, layers, 0, 2, 3), watching(module, layers) as chosen:
        run(module, inputs)
    assert all(chosen[layer.experts.path] == {1} for layer in layers)


def test_an_expert_named_twice_is_excluded_once():
    module, layers, inputs = tiny("mixtral")
    with excluding(module, layers, 1, 3):
        expected = run(module, inputs)
    with excluding(module, layers, 3, 1, 1):
        assert torch.equal(run(module, inputs), expected)


def test_an_excluded_expert_that_is_chosen_all_the_same_is_an_error():
    module, layers, inputs = tiny("mixtral")
    with (
        excluding(module, layers, 0, 1),
        excluding(module, layers, 2),
        pytest.raises(IngestError, match=r"^layers\.0\.mlp\.experts: its router chose expert \d although"),
    ):
        run(module, inputs)
    assert_clean(module)
