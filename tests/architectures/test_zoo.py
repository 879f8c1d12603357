"""The recomputation is held against the models themselves, so that it can be held against the package."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from . import zoo_brute_force, zoo_configs
from .zoo_specs import LayerSpec, NetworkSpec

TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}
Calls = dict[str, list[tuple[tuple[Any, ...], Any]]]
Observed = tuple[str, dict[str, list[zoo_brute_force.Recomputed]], Calls, nn.Module]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: for tensors this small, waiting for others takes most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=zoo_configs.KINDS)
def observed(request: pytest.FixtureRequest) -> Observed:
    """Recompute a tiny model's neurons; return them beside what each of its modules was given and returned."""
    kind = request.param
    config, model = zoo_configs.tiny(kind)
    calls: Calls = {name: [] for name, _ in model.named_modules()}

    def keep(name: str) -> Any:
        return lambda _, given, keywords, returned: calls[name].append(((*given, *keywords.values()), returned))

    for name, module in model.named_modules():
        module.register_forward_hook(keep(name), with_kwargs=True)
    return kind, zoo_brute_force.recompute(kind, config, model, zoo_configs.inputs(kind, config)), calls, model


def networks(
    recomputed: dict[str, list[zoo_brute_force.Recomputed]],
) -> list[tuple[NetworkSpec, Tensor, Tensor, Tensor | None]]:
    """Return each network with its routed and blind neurons [tokens, neurons] and its mask [tokens, experts]."""
    found = []
    for layer in (layer for stack in recomputed.values() for layer in stack):
        start = 0
        for network in layer.layer.feed_forwards:
            mine = slice(start, start + network.n_neurons)
            routed, blind = (sites["activation"][..., mine].flatten(0, 1) for sites in (layer.routed, layer.blind))
            mask = None if network.n_experts is None or layer.routed_mask is None else layer.routed_mask.flatten(0, 1)
            found.append((network, routed, blind, mask))
            start += network.n_neurons
        assert start == layer.routed["activation"].shape[-1] == layer.layer.n_neurons
    return found


def entering(kind: str, calls: Calls, network: NetworkSpec) -> Tensor:
    """Return what entered the network's down projection [tokens, neurons]."""
    given = calls[network.down][network.call][0][0].detach()
    if kind in ("fsmt", "xlnet"):
        given = given.transpose(0, 1)
    if kind == "squeezebert":
        given = given.transpose(1, 2)
    return given.reshape(-1, given.shape[-1])


def down_weights(model: nn.Module, network: NetworkSpec, hidden: int) -> Tensor:
    """Return the experts' down projections as [experts, width, hidden]."""
    weight = dict(model.named_parameters(remove_duplicate=False))[network.down].detach()
    weight = weight.reshape(network.n_experts or 1, -1, weight.shape[-1])
    return weight.transpose(1, 2) if weight.shape[1:] == (hidden, network.width) else weight


def test_the_neurons_of_every_network_are_what_enters_its_down_projection(observed: Observed) -> None:
    kind, recomputed, calls, model = observed
    checked = 0
    for network, routed, blind, mask in networks(recomputed):
        if mask is None:
            if network.down in calls:
                torch.testing.assert_close(routed, entering(kind, calls, network), **TOLERANCE)
            else:
                _assert_shared_output(calls, model, network, routed)
        elif network.declared.style == "expert modules":
            _assert_modules(calls, network, blind, mask)
        elif network.down in calls:
            _assert_sorted_rows(calls, network, blind, mask)
        elif kind in zoo_brute_force.SCALED_INPUTS:
            _assert_expert_outputs(calls, model, network, blind, mask)
        else:
            _assert_weighted_output(calls, model, network, routed, mask)
        checked += 1
    assert checked >= 2


def _assert_shared_output(calls: Calls, model: nn.Module, network: NetworkSpec, routed: Tensor) -> None:
    """Shared experts kept as parameters: their output is the neurons' own."""
    ((given, *_), returned) = calls[network.down.rpartition(".")[0]][network.call]
    weight = dict(model.named_parameters())[network.down].detach()  # [shared experts, hidden, width]
    expected = routed @ weight.transpose(1, 2).reshape(-1, given.shape[-1])
    torch.testing.assert_close(expected, returned.reshape(-1, given.shape[-1]), **TOLERANCE)


def _assert_weighted_output(calls: Calls, model: nn.Module, network: NetworkSpec, routed: Tensor, mask: Tensor) -> None:
    """Experts kept as parameters: the output is the chosen experts' neurons, projected and weighted."""
    (given, chosen, weights), returned = calls[_experts_module(network)][network.call]
    hidden, count = given.shape[-1], network.n_experts or 0
    share = torch.zeros(len(mask), max(count, int(chosen.max()) + 1)).scatter_add(1, chosen, weights.detach().float())
    sent = share[:, :count]
    torch.testing.assert_close(mask, sent != 0)
    parameters = dict(model.named_parameters())
    down = down_weights(model, network, hidden)
    output = torch.einsum("tew,ewh->teh", routed.unflatten(1, (count, -1)), down)
    if f"{network.down}_bias" in parameters:
        output = output + parameters[f"{network.down}_bias"].detach()
    expected = (output * sent[:, :, None]).sum(1)
    passed = share[:, count:].sum(1, keepdim=True) * given.reshape(-1, hidden)  # choices that are no experts
    torch.testing.assert_close(expected + passed, returned.reshape(-1, hidden), **TOLERANCE)


def _experts_module(network: NetworkSpec) -> str:
    """Return the module that is given tokens, choices and weights; in DBRX the parameters are a level deeper."""
    return network.down.rpartition(".")[0].removesuffix("experts.mlp") + (
        "experts" if "experts.mlp" in network.down else ""
    )


def _assert_expert_outputs(calls: Calls, model: nn.Module, network: NetworkSpec, blind: Tensor, mask: Tensor) -> None:
    """Llama 4: every expert is run on every token, multiplied by its score or by 0."""
    (given,), returned = calls[network.down.rpartition(".")[0]][network.call]
    neurons = (blind.unflatten(1, (network.n_experts or 0, -1)) * mask[:, :, None]).transpose(0, 1)
    expected = neurons @ down_weights(model, network, given.shape[-1])
    torch.testing.assert_close(expected.flatten(0, 1), returned, **TOLERANCE)


def _assert_sorted_rows(calls: Calls, network: NetworkSpec, blind: Tensor, mask: Tensor) -> None:
    """JetMoE: one row for every token and expert it is sent to, an expert's rows together."""
    (rows, sizes), _ = calls[network.down][network.call]
    assert list(sizes) == mask.sum(0).tolist()
    wanted = blind.unflatten(1, (network.n_experts or 0, -1))
    for expert, part in enumerate(rows.split(sizes)):
        expected = wanted[mask[:, expert], expert]
        torch.testing.assert_close(part.sort(0).values, expected.sort(0).values, **TOLERANCE)


def _assert_modules(calls: Calls, network: NetworkSpec, blind: Tensor, mask: Tensor) -> None:
    """Experts that are modules: each is run on the tokens it is sent, perhaps more than once (NLLB)."""
    wanted = blind.unflatten(1, (network.n_experts or 0, -1))
    for expert in range(network.n_experts or 0):
        seen = [given[0].detach() for given, _ in calls[network.down.format(expert=expert)]]
        expected = wanted[mask[:, expert], expert]
        assert bool(seen) == bool(len(expected))
        if seen:
            torch.testing.assert_close(_distinct(torch.cat(seen)), _distinct(expected), **TOLERANCE)


def _distinct(rows: Tensor) -> Tensor:
    """Return rows in an order that does not depend on rounding, each once."""
    rows = rows[(rows.double() @ torch.arange(1.0, rows.shape[1] + 1, dtype=torch.float64)).argsort()]
    kept = [0, *(i for i in range(1, len(rows)) if not torch.allclose(rows[i], rows[i - 1], rtol=1e-5, atol=1e-6))]
    return rows[kept]


def test_blind_and_routed_agree_where_a_token_is_sent(observed: Observed) -> None:
    _, recomputed, _, _ = observed
    for network, routed, blind, mask in networks(recomputed):
        sent = torch.ones_like(routed, dtype=torch.bool) if mask is None else mask.repeat_interleave(network.width, 1)
        assert torch.equal(routed, blind * sent)
        assert torch.isfinite(blind).all()
        assert mask is None or 0 < mask.sum() < mask.numel()
        assert blind.std() > 1e-4


def test_the_zoo_is_broad_and_a_quarter_of_it_has_experts() -> None:
    table = zoo_brute_force.DENSE | zoo_brute_force.EXPERTS
    assert set(table) == set(zoo_configs.KINDS)
    assert not set(table) & set(zoo_brute_force.REFUSED)
    assert len(table) >= 200
    assert len(zoo_brute_force.EXPERTS) >= 50


@pytest.mark.parametrize(
    ("kind", "stack", "neurons", "experts"),
    [
        ("llama", "decoder", [40, 40, 40], [None, None, None]),
        ("albert", "encoder", [40, 40, 40], [None, None, None]),
        ("mobilebert", "encoder", [160, 160, 160], [None, None, None]),
        ("mixtral", "decoder", [160, 160, 160], [4, 4, 4]),
        ("deepseek_v3", "decoder", [40, 8 * 24 + 24, 8 * 24 + 24], [None, 8, 8]),
        ("qwen2_moe", "decoder", [40, 4 * 24 + 28, 4 * 24 + 28], [None, 4, 4]),
        ("switch_transformers", "decoder", [40, 160, 40], [None, 4, None]),
        ("nemotron_h", "decoder", [4 * 24 + 28, 40], [4, None]),
    ],
)
def test_the_configuration_implies_the_number_of_neurons(
    kind: str, stack: str, neurons: list[int], experts: list[int | None]
) -> None:
    config, model = zoo_configs.tiny(kind)
    found: list[LayerSpec] = zoo_brute_force.layers(kind, config, model)[stack]
    assert [layer.n_neurons for layer in found] == neurons
    assert [layer.n_native_experts for layer in found] == experts
