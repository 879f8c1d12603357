"""Ablating neurons while a model runs: zero, mean, clamp, noise, shuffle, or restricting the router."""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import EllipsisType
from typing import Any, Protocol, cast

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...errors import AnalysisError, check_known
from ...ingest.models.model import body_parts
from ...ingest.neurons import experts
from ...ingest.neurons.feed_forwards import FeedForward, Layer, Place
from ...ingest.neurons.hooks import NeuronValues, hooked
from ...ingest.neurons.layers import find_layers
from ...queries.result import Result
from ...schema.vocabulary import ActivationKind, PerturbationKind
from ..neuron_rows import KEYS, read_neurons
from .settings import LEVEL_COLUMNS, check_kind

# The selected neurons of each stack and layer: columns neuron and level, the latter in float32.
_Selection = Mapping[tuple[Any, ...], pl.DataFrame]
# The selected neurons of a network, by expert, or under None in a dense one: their indices within the expert or
# network, ascending, and their levels in float32 [selected].
_Groups = dict[int | None, tuple[Tensor, Tensor]]
_Replaced = Callable[[Tensor, Tensor], Tensor]  # takes values and levels
_Generator = Callable[[torch.device], torch.Generator]


class _ArrowTable(Protocol):
    """A table of any library that speaks Arrow: polars, pandas, pyarrow, DuckDB."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


Neurons = Result | _ArrowTable | Iterable[tuple[str, int, int]]
"""Rows of stack, layer, neuron: a query's result, a data frame or Arrow table, or tuples."""


@contextlib.contextmanager
def ablate(
    model: PreTrainedModel, neurons: Neurons, *, kind: PerturbationKind = "zero", scale: float = 1.0, seed: int = 0
) -> Iterator[None]:
    """Change the activations of some neurons whenever `model` runs inside the ``with`` block.

    The activation is what enters the down projection: act(gate) * up in a gated network. Afterwards the model is as it
    was, also after an exception. Nothing is copied or moved, and gradients flow through what is not overwritten.
    Ablations of different neurons may be nested.

    Parameters
    ----------
    model
        A transformers model that takes text, with or without a head. When it is first seen, two texts of four tokens
        are run to tell an encoder from a decoder.
    neurons
        Rows of stack, layer and neuron, named as in the store; each neuron once, in any order. Without rows nothing is
        ablated. In a mixture of experts, a neuron is ablated for the tokens that are routed to its expert.
    kind
        - ``zero``: activations are 0, as if the output weights were 0.
        - ``mean``: activations are held at column ``mean``.
        - ``clamp``: activations are held at column ``value``.
        - ``noise``: Gaussian noise with a standard deviation of `scale` times column ``std`` is added at every token.
        - ``shuffle``: the activations of a layer's selected neurons are permuted over texts, tokens and neurons, and
          multiplied by `scale` (Zhang et al. 2023 take 4). Each expert's are permuted among the tokens routed to it.
        - ``route-away``: the router may not choose the experts whose neurons these are, and sends their tokens to the
          best other experts, as if the model had been built without them (Zhang et al. 2023, for Switch). All neurons
          of an expert must be given.
        - ``route-only``: the router may choose these experts alone (Zhang et al. 2023, Table 3, for Switch); layers of
          which no neuron is given are left as they are. Whole experts, in a layer at least as many as a token is sent
          to; as ``route-away`` from all others.

        Columns ``mean`` and ``std`` of table ``neurons`` describe pooled activations: by default each instance's
        maximum, which lies above the mean over tokens. Take them from a run of the site ``activation``, and of pooling
        ``mean`` for a neuron's average.
    scale, seed
        Factor and seed of ``noise`` and ``shuffle``; the scale of other kinds must be 1. With the same seed, the same
        batches are ablated in the same way. The random state of torch is not touched.

    Raises
    ------
    AnalysisError
        If a column is missing or holds no numbers; if a neuron does not exist or is given twice; if the scale is not
        possible; if the model is compiled or not of transformers; or if neurons of a kind that restricts the router are
        not all those of routed experts.
    UnknownNameError
        If the model has no such stack, or there is no such kind.
    IngestError
        If the model's neurons cannot be found or changed, if its router cannot be kept from an expert, or if fewer
        experts are left than it sends a token to. That a router does not obey may show only when the model runs.

    Notes
    -----
    ``shuffle`` permutes padding too, because it cannot be told from text where the neurons are: run texts of one length
    together, or one text at a time. For a single token, as in generation with a cache, activations are permuted among
    the selected neurons alone; for a single neuron only `scale` acts.

    Examples
    --------
    >>> top = store.sql("select stack, layer, neuron from top_neurons where …")  # doctest: +SKIP
    >>> with ablate(model, top, kind="zero"):  # doctest: +SKIP
    ...     logits = model(**inputs).logits
    """
    check_kind(kind, scale=scale)
    selection = _read(neurons, LEVEL_COLUMNS.get(kind), kind)

    @functools.cache  # the caller's random state stays as it is
    def generator(device: torch.device) -> torch.Generator:
        return torch.Generator(device).manual_seed(seed)

    with contextlib.ExitStack() as undo:
        for module, layers in _find(model, selection):
            selected = {layer: selection[layer.stack, layer.layer] for layer in layers}
            if kind == "route-away" or kind == "route-only":
                for layer, own in selected.items():
                    given = _whole_experts(layer, own["neuron"].to_list(), kind)
                    others = [expert for expert in range(layer.n_native_experts) if expert not in given]
                    excluded = given if kind == "route-away" else others
                    undo.enter_context(experts.exclude_experts(module, layer, excluded))
            else:
                groups = {place: own for layer in layers for place, own in _groups(layer, selected[layer]).items()}
                replaced = functools.partial(_replaced, kind, scale, generator)
                undo.enter_context(hooked(module, layers, functools.partial(_changed, groups, replaced)))
        yield


def _groups(layer: Layer, selected: pl.DataFrame) -> dict[Place, _Groups]:
    """Return the selected neurons of each network of a layer, by the place of its down projection."""
    groups, first = {}, 0
    for network in layer.feed_forwards:
        unit = pl.col("neuron") - first
        # In order of neurons, not of rows: SQL promises none, and draws would differ with it.
        own = selected.filter(unit.is_between(0, network.n_neurons - 1)).sort("neuron")
        expert = pl.lit(None) if network.n_experts is None else unit // network.width
        parts = own.select("level", unit=unit % network.width, expert=expert).partition_by("expert", as_dict=True)
        groups[network.down] = {
            key: (part["unit"].to_torch(), part["level"].to_torch()) for (key,), part in parts.items()
        }
        first += network.n_neurons
    return groups


def _changed(groups: Mapping[Place, _Groups], replaced: _Replaced, network: FeedForward, seen: NeuronValues) -> Tensor:
    """Return the activations of a network, replaced where its neurons are selected."""
    own = groups[network.down]
    if not own:
        return seen.values
    changed = seen.values.clone()
    for expert in [None] if seen.expert is None else torch.unique(seen.expert).tolist():
        if expert in own:
            # In an expert [rows, 1], which spans [rows, units] beside units.
            rows: Tensor | EllipsisType = ... if expert is None else torch.nonzero(seen.expert == expert)
            # Kept where it is used: layers may be on several devices.
            units, levels = (tensor.to(changed.device) for tensor in own[expert])
            own[expert] = units, levels
            changed[rows, units] = replaced(seen.values[rows, units], levels)
    return changed


def _replaced(kind: ActivationKind, scale: float, generator: _Generator, values: Tensor, levels: Tensor) -> Tensor:
    """Return new activations for `values` [..., neurons], given the neurons' levels in float32 [neurons]."""
    match kind:
        case "zero" | "mean" | "clamp":
            return levels.to(values.dtype).expand_as(values)
        case "noise":
            drawn = torch.randn(values.shape, generator=generator(values.device), device=values.device)
            return (values + scale * levels * drawn).to(values.dtype)
        case "shuffle":
            order = torch.randperm(values.numel(), generator=generator(values.device), device=values.device)
            return values.reshape(-1)[order].reshape(values.shape) * scale


def _whole_experts(layer: Layer, neurons: Collection[int], kind: str) -> list[int]:
    """Return the routed experts that neurons of a layer make up, ascending; refuse any other neurons."""
    experts, where = layer.experts, f"{layer.stack} layer {layer.layer}"
    outside = [neuron for neuron in neurons if experts is None or neuron >= experts.n_neurons]
    if experts is None or outside:
        problem = f"{where}, neuron {min(outside)} is of no routed expert"
        raise AnalysisError(f"{problem}: every token passes it, and {kind} is about what a router chooses")
    n_selected = Counter(neuron // experts.width for neuron in neurons)
    for expert, n in sorted(n_selected.items()):
        if n < experts.width:
            problem = f"{where}, expert {expert}: {experts.width - n:,} of its {experts.width:,} neurons are missing"
            raise AnalysisError(f"{problem}; {kind} takes whole experts")
    return sorted(n_selected)


def experts_per_token(model: PreTrainedModel) -> int:
    """Return to how many experts the layers of a model send a token, the most of any; 0 in a dense model."""
    body, parts = body_parts(model)
    stacks = ((part, body.get_submodule(part.path)) for part in parts)
    counts = [
        experts.experts_per_token(module, layer.experts)
        for part, module in stacks
        for layer in find_layers(module, part.config, stack=part.stack, name=model.name_or_path or "")
        if layer.experts
    ]
    return max(counts, default=0)


def _find(model: PreTrainedModel, selection: _Selection) -> Iterator[tuple[PreTrainedModel, tuple[Layer, ...]]]:
    """Yield each stack with selected neurons, and the layers that hold them."""
    if not selection:
        return
    if not isinstance(model, PreTrainedModel):
        raise AnalysisError(f"{type(model).__name__} is no model of transformers, so its neurons cannot be found")
    name = model.name_or_path or type(model).__name__
    if any(module._compiled_call_impl is not None for module in model.modules()):
        raise AnalysisError(f"model {name} is compiled, which would pass over any perturbation; load it anew")
    body, parts = body_parts(model)
    check_known("stack", (stack for stack, _ in selection), [part.stack for part in parts], where=f"model {name}")
    for part in parts:
        wanted = {layer: rows["neuron"] for (stack, layer), rows in selection.items() if stack == part.stack}
        if not wanted:
            continue
        module = cast("PreTrainedModel", body.get_submodule(part.path))
        layers = find_layers(module, part.config, stack=part.stack, name=name)
        n_neurons, whose = {layer.layer: layer.n_neurons for layer in layers}, f"the {part.stack} of model {name}"
        for number, neurons in wanted.items():
            if number not in n_neurons:
                problem = f"{whose} has no layer {number}; it has {len(n_neurons)} layers of neurons"
                raise AnalysisError(f"{problem}, {min(n_neurons)} to {max(n_neurons)}")
            n = n_neurons[number]
            if len(absent := neurons.filter(~neurons.is_between(0, n - 1))):
                raise AnalysisError(f"layer {number} of {whose} has no neuron {absent[0]}; it has {n:,}, from 0")
        yield module, tuple(layer for layer in layers if layer.layer in wanted)


def _read(neurons: Neurons, column: str | None, kind: str) -> _Selection:
    """Return the selected neurons with their levels, which are 0 if no column holds them."""
    rows = _table(neurons)
    if not rows.num_rows:
        return {}
    selected = read_neurons(rows, f"the neurons of a perturbation of kind {kind}", level=column)
    for stack, layer, neuron in selected.select(KEYS).filter(~pl.struct(KEYS).is_first_distinct()).head(1).rows():
        problem = f"{stack} layer {layer}, neuron {neuron} is among the neurons more than once"
        raise AnalysisError(f"{problem}; are they of several runs?")
    level = pl.lit(0.0) if column is None else pl.col("level")
    selected = selected.with_columns(level=level.cast(pl.Float32))
    return selected.partition_by("stack", "layer", maintain_order=True, as_dict=True)


def _table(neurons: Neurons) -> pa.Table:
    if isinstance(neurons, Result):
        return neurons.arrow()
    if hasattr(neurons, "__arrow_c_stream__"):
        return pa.table(neurons)
    rows = list(neurons)
    for row in rows:
        match row:
            case (str(), int() | np.integer(), int() | np.integer()):
                continue
        raise AnalysisError(f"{row!r} is no neuron; one is (stack, layer, neuron), such as ('encoder', 0, 17)")
    schema = {"stack": pl.String, "layer": pl.Int64, "neuron": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row").to_arrow()
