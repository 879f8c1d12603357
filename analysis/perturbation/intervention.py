"""Perturbing the neurons that a query has found, while a model runs."""

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Protocol, cast

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel

from ...errors import AnalysisError, UnknownNameError
from ...ingest.models.model import body_parts
from ...ingest.neurons.feed_forwards import FeedForward, Layer, Place
from ...ingest.neurons.hooks import hooked
from ...ingest.neurons.layers import find_layers
from ...ingest.neurons.routers import exclude_experts
from ...ingest.neurons.sites import NeuronValues
from ...queries.result import Result
from ...schema.vocabulary import PerturbationKind
from ..neuron_rows import KEYS, check_columns, key_column, numbers
from .kinds import LEVEL_COLUMNS, check_kind
from .perturber import Perturber

__all__ = ["Neurons", "perturb"]

# What a row says of its neuron, by stack and layer, then neuron.
_Selection = dict[tuple[str, int], dict[int, float]]


class _ArrowTable(Protocol):
    """A table of any library that speaks Arrow: polars, pandas, pyarrow, DuckDB."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


Neurons = Result | _ArrowTable | Iterable[tuple[str, int, int]]
"""Rows of stack, layer, neuron: a query's result, a data frame or Arrow table, or tuples."""


@contextlib.contextmanager
def perturb(
    model: PreTrainedModel,
    neurons: Neurons,
    *,
    kind: PerturbationKind = "zero",
    scale: float = 1.0,
    seed: int = 0,
) -> Iterator[None]:
    """Perturb neurons whenever `model` runs inside; the model is itself again afterwards, also after an exception.

    What is perturbed is the activation: what enters the down projection, act(gate) * up where gated; of ``route-away``
    the router's choice. Nothing is copied or moved; gradients flow through what is not overwritten. Perturbations of
    different neurons may be nested.

    Parameters
    ----------
    model
        A transformers model that takes text, with or without a head. The first time it is seen, two texts of four
        tokens are run to tell an encoder from a decoder.
    neurons
        Rows of stack, layer and neuron, each neuron once, in any order, named as in the store; none: nothing is
        perturbed. In a mixture of experts the neurons of an expert are perturbed for the tokens routed to it.
    kind
        - ``zero``: held at 0, as if its output weights were 0;
        - ``mean``: held at its column ``mean``;
        - ``clamp``: held at its column ``value``;
        - ``noise``: Gaussian noise is added, of a standard deviation of `scale` times its column ``std``, drawn for
          every token;
        - ``shuffle``: the activations of a layer's selected neurons are permuted over batch, position and neuron, then
          multiplied by `scale` (Zhang et al. 2023, with a scale of 4). Of experts: of each expert on its own, over
          the tokens routed to it and its selected neurons; likewise shared experts on their own.
        - ``route-away``: the router of a mixture may not choose the experts whose neurons these are, and sends their
          tokens to the best of the others (Zhang et al. 2023, of Switch). The model computes as if it had been built
          without these experts. All neurons of an expert must be given.

        Columns ``mean`` and ``std`` of table ``neurons`` are of pooled activations: by default of each instance's
        maximum, which lies above the mean over tokens. Take them from a run of the site ``activation``, and of
        pooling ``mean`` for what a neuron holds on average.
    scale
        Factor of ``noise`` and ``shuffle``; the other kinds take 1 alone.
    seed
        Of the draws of ``noise`` and ``shuffle``. Entering with the same seed perturbs the same batches in the same
        way. The random state of torch is not touched.

    Raises
    ------
    AnalysisError
        If a column is missing or no number, if a neuron is not there or given twice, if the scale is not possible, if
        the model is compiled or not of transformers, or if neurons to route away from are not all those of an expert.
    UnknownNameError
        If the model has no such stack, or there is no such kind.
    IngestError
        If the model's neurons cannot be found or read, or if its router cannot be kept from an expert, which may show
        only when the model runs.

    Notes
    -----
    Padding is permuted along by ``shuffle``: where neurons are, it cannot be told from text. Texts of one length, or
    one text at a time, have none. Of one text of one token, such as in generation with a cache, the values are
    permuted among the selected neurons alone; if that is one neuron, only the scale acts.

    Examples
    --------
    >>> top = store.sql("select stack, layer, neuron from top_neurons where …")  # doctest: +SKIP
    >>> with perturb(model, top, kind="zero"):  # doctest: +SKIP
    ...     logits = model(**inputs).logits
    """
    check_kind(kind, scale=scale)
    selection = _read(neurons, LEVEL_COLUMNS.get(kind), kind)
    found = _find(model, selection)
    with contextlib.ExitStack() as undo:
        if kind == "route-away":
            for module, layers in found:
                for layer in layers:
                    experts = _whole_experts(layer, selection[layer.stack, layer.layer])
                    undo.enter_context(exclude_experts(module, layer, experts))
        else:
            perturber = Perturber(kind, scale=scale, seed=seed)
            for module, layers in found:
                undo.enter_context(hooked(module, layers, _Change(perturber, layers, selection)))
        yield


@dataclass(frozen=True, slots=True)
class _Group:
    """Selected neurons of a dense network, or of one expert.

    Parameters
    ----------
    units
        Their indices within the network or expert, ascending. [selected]
    levels
        What their rows say of them, float32. [selected]
    """

    units: torch.Tensor
    levels: torch.Tensor

    def to(self, device: torch.device) -> "_Group":
        return _Group(self.units.to(device), self.levels.to(device))


class _Change:
    """What `hooked` puts in place of the activations of some layers of one stack."""

    def __init__(self, perturber: Perturber, layers: Sequence[Layer], selection: _Selection) -> None:
        self._perturber = perturber
        # By network, then expert, None in a dense one.
        self._groups: dict[Place, dict[int | None, _Group]] = {}
        for layer in layers:
            first = 0
            for network in layer.feed_forwards:
                chosen = selection[layer.stack, layer.layer]
                within = {each - first: chosen[each] for each in chosen if 0 <= each - first < network.n_neurons}
                self._groups[network.down] = _grouped(network, within)
                first += network.n_neurons

    def __call__(self, network: FeedForward, seen: NeuronValues) -> torch.Tensor:
        groups = self._groups[network.down]
        if not groups:
            return seen.values
        changed = seen.values.clone()
        for expert, rows in _rows(seen):
            if expert not in groups:
                continue
            # Kept where it is used: layers may be on several devices.
            group = groups[expert] = groups[expert].to(changed.device)
            where = (rows, group.units)
            changed[where] = self._perturber.perturb(seen.values[where], group.levels)
        return changed


def _grouped(network: FeedForward, within: Mapping[int, float]) -> dict[int | None, _Group]:
    """Group the selected neurons of a network by expert."""
    members: dict[int | None, list[int]] = {}
    # In order of neurons, not of rows: SQL promises none, and draws would differ with it.
    for neuron in sorted(within):
        members.setdefault(None if network.n_experts is None else neuron // network.width, []).append(neuron)
    return {
        expert: _Group(
            torch.tensor([neuron % network.width for neuron in neurons]),
            torch.tensor([within[neuron] for neuron in neurons], dtype=torch.float32),
        )
        for expert, neurons in members.items()
    }


def _whole_experts(layer: Layer, neurons: Collection[int]) -> list[int]:
    """Return the routed experts that some neurons of a layer make up, ascending; refuse neurons that make up none."""
    bank = layer.experts
    outside = [neuron for neuron in neurons if bank is None or neuron >= bank.n_neurons]
    if bank is None or outside:
        raise AnalysisError(
            f"{layer.stack} layer {layer.layer}, neuron {min(outside)} is of no routed expert: every token passes it, "
            "so that no router can route away from it"
        )
    n_selected = Counter(neuron // bank.width for neuron in neurons)
    for expert in sorted(n_selected):
        if n_missing := bank.width - n_selected[expert]:
            raise AnalysisError(
                f"{layer.stack} layer {layer.layer}, expert {expert}: {n_missing:,} of its {bank.width:,} neurons are "
                "missing; route-away takes whole experts"
            )
    return sorted(n_selected)


def _rows(seen: NeuronValues) -> Iterator[tuple[int | None, torch.Tensor | EllipsisType]]:
    """Yield each expert that has tokens and an index of its rows; of a dense network None and all."""
    if seen.expert is None:
        yield None, ...
        return
    for expert in torch.unique(seen.expert).tolist():
        yield expert, torch.nonzero(seen.expert == expert)  # [rows, 1]: beside units it spans [rows, units]


def _find(model: PreTrainedModel, selection: _Selection) -> Iterator[tuple[PreTrainedModel, tuple[Layer, ...]]]:
    """Yield each stack with selected neurons, and the layers that hold them."""
    if not selection:
        return
    if not isinstance(model, PreTrainedModel):
        raise AnalysisError(f"{type(model).__name__} is no model of transformers, so its neurons cannot be found")
    name = model.name_or_path or type(model).__name__
    if any(each._compiled_call_impl is not None for each in model.modules()):
        raise AnalysisError(f"model {name} is compiled, which would pass over any perturbation; load it anew")
    body, parts = body_parts(model)
    stacks = [part.stack for part in parts]
    for stack, _ in selection:
        if stack not in stacks:
            raise UnknownNameError("stack", stack, stacks, where=f"model {name}")
    for part in parts:
        asked = {layer: chosen for (stack, layer), chosen in selection.items() if stack == part.stack}
        if asked:
            module = cast("PreTrainedModel", body.get_submodule(part.path))
            layers = find_layers(module, part.config, stack=part.stack, name=name)
            _check_present(asked, layers, f"the {part.stack} of model {name}")
            yield module, tuple(layer for layer in layers if layer.layer in asked)


def _check_present(asked: Mapping[int, Iterable[int]], layers: Sequence[Layer], where: str) -> None:
    n_neurons = {layer.layer: layer.n_neurons for layer in layers}
    for layer, neurons in asked.items():
        if layer not in n_neurons:
            raise AnalysisError(
                f"{where} has no layer {layer}; it has {len(n_neurons)} layers of neurons, {min(n_neurons)} to "
                f"{max(n_neurons)}"
            )
        for neuron in neurons:
            if not 0 <= neuron < n_neurons[layer]:
                raise AnalysisError(
                    f"layer {layer} of {where} has no neuron {neuron}; it has {n_neurons[layer]:,}, from 0"
                )


def _read(neurons: Neurons, level: str | None, kind: str) -> _Selection:
    """Return what rows say of each neuron, 0 if no column is asked for."""
    rows = _table(neurons)
    selection: _Selection = {}
    if not rows.num_rows:
        return selection
    columns = KEYS if level is None else (*KEYS, level)
    owner = f"the neurons of a perturbation of kind {kind}"
    check_columns(rows, columns, owner)
    levels = np.zeros(rows.num_rows) if level is None else numbers(rows.column(level), level, owner)
    keys = (key_column(rows, name, owner).tolist() for name in KEYS)
    for stack, layer, neuron, value in zip(*keys, levels.tolist(), strict=True):
        chosen = selection.setdefault((stack, layer), {})
        if neuron in chosen:
            raise AnalysisError(
                f"{stack} layer {layer}, neuron {neuron} is among the neurons more than once; are they of several runs?"
            )
        chosen[neuron] = value
    return selection


def _table(neurons: Neurons) -> pa.Table:
    if isinstance(neurons, Result):
        return neurons.arrow()
    if hasattr(neurons, "__arrow_c_stream__"):
        return pa.table(neurons)
    rows = list(neurons)
    for row in rows:
        match row:
            case (str(), int() | np.integer(), int() | np.integer()):
                pass
            case _:
                raise AnalysisError(f"{row!r} is no neuron; one is (stack, layer, neuron), such as ('encoder', 0, 17)")
    types = (pa.string(), pa.int64(), pa.int64())
    columns = [pa.array([row[place] for row in rows], type_) for place, type_ in enumerate(types)]
    return pa.table(columns, names=KEYS)
