"""What the package makes of each tiny model, held against the recomputation."""

import contextlib
import dataclasses
import functools
import re
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
import zoo_brute_force
import zoo_configs

from neuronlake.errors import IngestError
from neuronlake.ingest.capture import capture
from neuronlake.ingest.layers import Layer, Stack, find_layers
from neuronlake.ingest.models import is_causal, stack_parts
from neuronlake.ingest.pooling import Spans
from neuronlake.ingest.sites import Router, Site, check_site

Read = dict[tuple[Site, Router], tuple[list[torch.Tensor], list[torch.Tensor]]]
"""Every layer's neurons and its experts' shares, by site and router."""

# Relative to a layer's largest value: what is left is the rounding of matrix products of other shapes.
TOLERANCE = 1e-5


# Of those in REFUSED, what can be built from a configuration alone, to see that the package refuses it.
BUILT_BUT_NOT_RECOMPUTED = (
    *("canine", "cpmant", "falcon_mamba", "funnel", "hrm_text", "mamba", "mamba2", "pegasus_x", "prophetnet"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one architecture.

    Parameters
    ----------
    kind
        Its name in the zoo.
    class_name
        The class of the model.
    stacks
        Which it has.
    layers
        What was read; empty if it was refused.
    sites
        The sites that all of its layers have.
    refused
        Why it was refused, None if it was not.
    """

    kind: str
    class_name: str
    stacks: tuple[Stack, ...]
    layers: tuple[Layer, ...]
    sites: tuple[Site, ...]
    refused: str | None

    @property
    def model_type(self) -> str:
        """Its model type, and the variant where there are several."""
        name, _, variant = self.kind.partition(":")
        return f"{name} ({variant})" if variant else name

    @property
    def network(self) -> str:
        """What its feed-forward networks are, in words."""
        networks = [network for layer in self.layers for network in layer.feed_forwards]
        words = ["gated" if networks[0].is_gated else "not gated"]
        if self.n_experts:
            words.append("experts")
            if any(len(layer.feed_forwards) > 1 and layer.bank for layer in self.layers):
                words.append("shared or dense beside them")
            if any(layer.bank is None for layer in self.layers):
                words.append("dense layers")
        return ", ".join(words)

    @property
    def n_experts(self) -> int:
        """Experts of its layers that have most, 0 if it has none."""
        return max((layer.bank.n_experts or 0 for layer in self.layers if layer.bank), default=0)


def verdicts() -> list[Verdict]:
    """Return the verdicts on all architectures, those that no recomputation exists for among them."""
    kinds = (*zoo_configs.KINDS, *BUILT_BUT_NOT_RECOMPUTED)
    return sorted(map(verdict, kinds), key=lambda each: (each.class_name, each.kind))


@functools.cache
def verdict(kind: str) -> Verdict:
    """Read every neuron of a tiny model for every token and compare; raise AssertionError where they differ."""
    config, model = zoo_configs.tiny(kind)
    body, parts = stack_parts(model, with_decoder=config.is_encoder_decoder)
    if len(parts) == 1:
        parts = (dataclasses.replace(parts[0], stack="decoder" if is_causal(body, kind) else "encoder"),)
    stacks: tuple[Stack, ...] = tuple(part.stack for part in parts)
    inputs = zoo_configs.inputs(kind, config)
    try:
        layers = tuple(
            layer
            for part in parts
            for layer in find_layers(body, part.config, stack=part.stack, name=kind, root=part.path)
        )
        read = _read_all(body, layers, inputs, "activation")
    except IngestError as error:
        return Verdict(kind, type(model).__name__, stacks, (), (), _reason(error))
    sites: list[Site] = ["activation"]
    for site in get_args(Site)[1:]:
        with contextlib.suppress(IngestError):
            read |= _read_all(body, layers, inputs, site)
            sites.append(site)
    _compare(kind, config, model, inputs, layers, read)
    return Verdict(kind, type(model).__name__, stacks, layers, tuple(sites), None)


def _reason(error: IngestError) -> str:
    """Return an error without the name of the model, which is the zoo's."""
    return re.sub(r"^model \S+ \(\w+\): ", "", str(error))


def _read_all(body: torch.nn.Module, layers: tuple[Layer, ...], inputs: dict[str, torch.Tensor], site: Site) -> Read:
    for layer in layers:
        for network in layer.feed_forwards:
            check_site(network, site)
    return {(site, router): _read(body, layers, inputs, site, router) for router in get_args(Router)}


def _read(
    body: torch.nn.Module, layers: tuple[Layer, ...], inputs: dict[str, torch.Tensor], site: Site, router: Router
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return every layer's neurons, and its experts' shares, each token an instance of its own. [tokens, neurons]"""
    spans: dict[Stack, Spans] = {}
    for layer in layers:
        ids = inputs["decoder_input_ids" if layer.stack == "decoder" and "decoder_input_ids" in inputs else "input_ids"]
        row, start = (each.flatten() for each in np.indices(tuple(ids.shape)))
        spans[layer.stack] = Spans(row, start, start + 1, tuple(ids.shape))
    with torch.inference_mode():
        before = _states(body(**inputs))
        with capture(body, layers, site=site, router=router, pooling="last") as reading, reading.batch(spans):
            after = _states(body(**inputs))
    assert torch.equal(before, after), "reading changed what the model computes"
    return reading.pooled(), reading.routed()


def _states(output: Any) -> torch.Tensor:
    return output[0]


def _compare(
    kind: str,
    config: Any,
    model: torch.nn.Module,
    inputs: dict[str, torch.Tensor],
    layers: tuple[Layer, ...],
    read: Read,
) -> None:
    made = zoo_brute_force.recompute(kind, config, model, inputs)
    specs = [(each.layer.stack, each.layer.layer, each.layer.n_neurons) for stack in made.values() for each in stack]
    found = [(layer.stack, layer.layer, layer.n_neurons) for layer in layers]
    assert found == specs, f"{found} was found, {specs} is implied by the configuration"
    expected = [each for stack in made.values() for each in stack]
    for (site, router), (pooled, shares) in read.items():
        masks = [each.routed_mask for each in expected if each.routed_mask is not None]
        for share, mask in zip(shares, masks, strict=True):
            assert torch.equal(share, mask.flatten(0, 1).float()), "experts were sent other tokens"
        for layer, found, each in zip(layers, pooled, expected, strict=True):
            wanted = getattr(each, router).get(site)
            assert wanted is not None, f"{site} of {layer.stack} layer {layer.layer} was read, and is not defined"
            wanted = wanted.flatten(0, 1)
            error = float((found - wanted).abs().max() / wanted.abs().max())
            assert error < TOLERANCE, f"{site}, {router}: {layer.stack} layer {layer.layer} differs by {error:.1e}"
