"""The neurons of a tiny model, recomputed from the hidden states that its feed-forward networks read.

Nothing of the package and none of the model's own arithmetic is used: a hook in front of a network keeps what it is
given, and the rest follows from the weights and the architecture's definition.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .zoo_dense import DENSE
from .zoo_experts import EXPERTS, SCALED_INPUTS
from .zoo_routers import ROUTERS, Routing
from .zoo_specs import LayerSpec, NetworkSpec, resolve
from .zoo_styles import neurons

REFUSED: dict[str, str] = {
    "canine": "the deep layers see one position for every four characters",
    "cpmant": "prompt positions stand in front of the tokens, so positions are not the text's",
    "doge:moe": "product keys: an expert is one neuron, found through two halves of a key",
    "falcon_mamba": "no feed-forward network",
    "funnel": "positions are pooled between layers",
    "fuyu": "not a text model",
    "hrm_text": "the same layers are run several times for each token",
    "layoutlmv2": "needs a vision library",
    "mamba": "no feed-forward network",
    "mamba2": "no feed-forward network",
    "mra": "attends by CUDA kernels only; without them no token sees another",
    "neomme": "not a text model",
    "pegasus_x": "the encoder's networks also read global tokens that stand for no token of the text",
    "perceiver": "latent positions are not the text's",
    "prophetnet": "the decoder has several streams of positions for each token",
    "whisper": "not a text model",
}
"""Architectures whose neurons are not those of a feed-forward network that reads every token once."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """One layer's neurons for every token: sites by name, [texts, tokens, neurons].

    `routed` has 0 where a token is not sent to a neuron's expert; `blind` runs every expert on every token. A site that
    one of the layer's networks does not have (no gate) is left out. `routed_mask` is [texts, tokens, experts].
    """

    layer: LayerSpec
    routed: dict[str, Tensor]
    blind: dict[str, Tensor]
    routed_mask: Tensor | None


def layers(kind: str, config: Any, model: nn.Module) -> dict[str, list[LayerSpec]]:
    """Return the layers of each stack with the networks and sizes that the configuration implies."""
    return resolve((DENSE | EXPERTS)[kind], config)


@torch.no_grad()
def recompute(kind: str, config: Any, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, list[Recomputed]]:
    """Run the model once and return the neurons of each stack's layers."""
    found = layers(kind, config, model)
    networks = [network for stack in found.values() for layer in stack for network in layer.feed_forwards]
    sources = {network.source for network in networks} | {network.router_reads for network in networks}
    routers = {network.routed_by for network in networks if network.declared.router == "module"}
    with _recording(model, sources, routers) as seen:
        model(**inputs)
    made = {}
    for name, stack in found.items():
        side = "decoder_" if name == "decoder" and "decoder_input_ids" in inputs else ""
        ids, given = inputs[f"{side}input_ids"], inputs.get(f"{side}attention_mask")
        made[name] = [_layer(kind, model, layer, seen, ids, given) for layer in stack]
    return made


@contextmanager
def _recording(model: nn.Module, sources: set[str], routers: set[str]) -> Iterator[dict[str, list[Any]]]:
    """Keep the first argument of every call of the sources, and as `NAME()` what the routers answer."""
    seen: dict[str, list[Any]] = {name: [] for name in (*sources, *(f"{router}()" for router in routers))}

    def read(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            given = arguments[0] if arguments else next(iter(keywords.values()))
            seen[name].append(given.detach().clone())

        return hook

    def answered(name: str) -> Any:
        return lambda module, arguments, output: seen[f"{name}()"].append(output)

    handles = [model.get_submodule(s).register_forward_pre_hook(read(s), with_kwargs=True) for s in sorted(sources)]
    handles += [model.get_submodule(r).register_forward_hook(answered(r)) for r in sorted(routers)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _layer(
    kind: str, model: nn.Module, layer: LayerSpec, seen: dict[str, list[Any]], ids: Tensor, given: Tensor | None
) -> Recomputed:
    routed, blind, mask = [], [], None
    for network in layer.feed_forwards:
        x = _tokens_second(kind, seen[network.source][network.call], ids)
        sites = neurons(model, network, layer.config, x)
        if network.n_experts is not None:
            tokens = seen[network.router_reads][network.call].reshape(-1, x.shape[-1])
            decided = seen.get(f"{network.routed_by}()", [None])[0]
            routing = Routing(model, network, layer.config, tokens, (ids.shape[0], ids.shape[1]), ids, given, decided)
            mask = ROUTERS[network.declared.router](routing)
            if kind in SCALED_INPUTS:
                sites = _scaled(model, network, layer.config, routing)
        blind.append(sites)
        routed.append(sites if network.n_experts is None else _where(sites, mask, network))
    shape = (*ids.shape, -1)
    return Recomputed(
        layer, _beside(routed, shape), _beside(blind, shape), None if mask is None else mask.reshape(*shape)
    )


def _tokens_second(kind: str, x: Tensor, ids: Tensor) -> Tensor:
    """Return [texts, tokens, hidden] of a hidden state that has tokens first, channels second, or texts joined."""
    if kind in ("fsmt", "xlnet"):
        return x.transpose(0, 1)
    if kind == "squeezebert":
        return x.transpose(1, 2)
    return x.reshape(*ids.shape, x.shape[-1])


def _scaled(model: nn.Module, network: NetworkSpec, config: Any, routing: Routing) -> dict[str, Tensor]:
    """Llama 4: an expert reads the token multiplied by the expert's own score."""
    scores = routing.logits.sigmoid()  # [tokens, experts]
    parts = []
    for expert in range(network.n_experts or 0):
        sites = neurons(model, network, config, routing.tokens * scores[:, expert : expert + 1])
        mine = slice(expert * network.width, (expert + 1) * network.width)
        parts.append({site: values[:, mine] for site, values in sites.items()})
    return {site: torch.cat([part[site] for part in parts], 1) for site in parts[0]}


def _where(sites: dict[str, Tensor], mask: Tensor | None, network: NetworkSpec) -> dict[str, Tensor]:
    assert mask is not None
    wide = mask.repeat_interleave(network.width, 1)
    return {site: values.masked_fill(~wide, 0.0) for site, values in sites.items()}


def _beside(networks: list[dict[str, Tensor]], shape: tuple[int, ...]) -> dict[str, Tensor]:
    sites = set.intersection(*(set(network) for network in networks))
    return {site: torch.cat([network[site] for network in networks], 1).reshape(shape) for site in sorted(sites)}
