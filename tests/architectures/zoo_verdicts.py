"""What the package makes of each tiny model, held against the recomputation."""

import contextlib
import dataclasses
import functools
import re
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch

from neuronlake.errors import IngestError
from neuronlake.ingest.activations.capture import capture
from neuronlake.ingest.activations.pooling import Spans
from neuronlake.ingest.models.behaviour import adjust, is_causal, sees_padding
from neuronlake.ingest.models.model import stack_parts
from neuronlake.ingest.neurons.feed_forwards import Layer, Stack
from neuronlake.ingest.neurons.hooks import check_site
from neuronlake.ingest.neurons.layers import find_layers
from neuronlake.schema.vocabulary import Router, Site

from . import zoo_brute_force, zoo_configs
from .zoo_configs import DECODER_LENGTHS, LENGTHS

Read = dict[tuple[Site, Router], tuple[list[torch.Tensor], list[torch.Tensor]]]
"""Every layer's neurons and its experts' shares, by site and router."""

# Relative to a layer's largest value: what is left is the rounding of matrix products of other shapes.
TOLERANCE = 1e-5
# Between a text alone and beside a longer one: the rounding of all layers before.
PADDING_TOLERANCE = 1e-4


REASONS = {
    **zoo_brute_force.REFUSED,
    "dbrx": "its experts are rows of flat matrices, run outside transformers' experts interface",
    "inkling_text": "its shared experts are a tensor of their own kind",
    "jetmoe": "its experts, in attention too, are run outside transformers' experts interface",
    "lilt": "a second network reads the layout beside each that reads the text",
    "llama4_text": "its experts are run outside transformers' experts interface, on inputs scaled by the router",
    "longcat_flash": "some of its experts compute nothing, outside transformers' experts interface",
    "nllb-moe": "a fault of transformers: the router's choice is misread, and only two experts ever run",
    "reformer": "it pads texts by itself in a way that its states depend on",
    "squeezebert": "its networks are convolutions in groups",
}
"""Why architectures are refused, in words."""

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
    def is_gated(self) -> bool:
        """Whether its feed-forward networks are gated."""
        return self.layers[0].feed_forwards[0].is_gated

    @property
    def has_shared(self) -> bool:
        """Whether every token passes something beside the routed experts of a layer."""
        return any(len(layer.feed_forwards) > 1 and layer.experts for layer in self.layers)

    @property
    def has_dense_layers(self) -> bool:
        """Whether some layers have no experts."""
        return any(layer.experts is None for layer in self.layers)

    @property
    def n_experts(self) -> int:
        """Experts of its layers that have most, 0 if it has none."""
        return max((layer.n_native_experts for layer in self.layers), default=0)


def verdicts() -> list[Verdict]:
    """Return the verdicts on all architectures, those that no recomputation exists for among them."""
    kinds = (*zoo_configs.KINDS, *BUILT_BUT_NOT_RECOMPUTED)
    return sorted(map(verdict, kinds), key=lambda each: (each.class_name, each.kind))


@functools.cache
def verdict(kind: str) -> Verdict:
    """Read every neuron of a tiny model for every token and compare; raise AssertionError where they differ."""
    config, model = zoo_configs.tiny(kind)
    body, parts = stack_parts(model, with_decoder=config.is_encoder_decoder)
    list(adjust(body, kind))
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
    if not sees_padding(body.get_submodule(parts[0].path), kind):
        _compare_alone(body, layers, inputs, read["activation", "routed"][0])
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


def _compare_alone(
    body: torch.nn.Module, layers: tuple[Layer, ...], inputs: dict[str, torch.Tensor], together: list[torch.Tensor]
) -> None:
    """Read the shorter text without padding: its neurons are those it has beside a longer one."""
    alone = {name: values[1:] for name, values in inputs.items()}
    for name, values in alone.items():
        alone[name] = values[:, : (DECODER_LENGTHS if name == "decoder_input_ids" else LENGTHS)[1]]
    found, _ = _read(body, layers, alone, "activation", "routed")
    for layer, values, padded in zip(layers, found, together, strict=True):
        per_text = len(padded) // 2
        wanted = padded[per_text : per_text + len(values)]
        error = float((values - wanted).abs().max() / wanted.abs().max())
        assert error < PADDING_TOLERANCE, f"{layer.stack} layer {layer.layer} differs by {error:.1e} without padding"


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
