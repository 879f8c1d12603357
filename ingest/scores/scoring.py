"""Exact scores of every neuron for every function: the checks before the arithmetic in `kernel`, and its result."""

import dataclasses
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import IngestError
from ..corpora.labels import LabelIndex
from . import kernel
from .best import SCORE_NAMES
from .clusters import Clusters, tails
from .device import DeviceWalk
from .nulls import deviates, p_values

_Float = TypeVar("_Float", bound=np.floating)
STATISTIC_NAMES = ("mean", "std", "min", "max", "firing_rate")


class NonFiniteError(IngestError):
    """An activation that is NaN or infinite: its value, and its neuron and instance within the block."""

    def __init__(self, value: float, neuron: int, instance: int) -> None:
        super().__init__(f"activation {value} at neuron {neuron}, instance {instance}")
        self.value, self.neuron, self.instance = value, neuron, instance


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a block of neurons."""

    scores: NDArray[np.float32]  # the scores of `SCORE_NAMES`; NaN where a half lacks a class [neurons, functions, 9]
    # Share of permuted labels that score as high, by `nulls.p_values`, corrected for `clusters` [neurons, functions]
    p_value: NDArray[np.float64]
    correlation: NDArray[np.float32]  # of a neuron between instances of a cluster [neurons, clusterings]
    statistics: NDArray[np.float32]  # the statistics of `STATISTIC_NAMES` [neurons, 5]
    # Indices of the instances with the highest activations, -1 where fewer rise above the minimum [neurons, k]
    top_instance: NDArray[np.int64]
    top_value: NDArray[np.float32]  # their activations [neurons, k]

    @classmethod
    def concatenated(cls, blocks: "Sequence[Scores]") -> "Scores":
        """Return the scores of several blocks of neurons as those of one."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(block, name) for block in blocks]) for name in names))

    def rounded(self) -> "Scores":
        """Return the scores as they are stored, without digits that say nothing and do not compress.

        Half scores are multiples of 2 ** -18, means keep 16 significant bits, and p-values 11, rounded up. Average
        precisions and AUROC of all instances stay as they are.
        """
        scores = self.scores.copy()
        halves = [place for place, name in enumerate(SCORE_NAMES) if "half" in name]
        means = [place for place, name in enumerate(SCORE_NAMES) if name.startswith("mean")]
        scores[:, :, halves] = np.rint(scores[:, :, halves] * 2.0**18) / 2.0**18
        scores[:, :, means] = _significant(scores[:, :, means], 16, np.rint)
        p_value = np.minimum(_significant(self.p_value, 11, np.ceil), 1)
        return dataclasses.replace(self, scores=scores, p_value=p_value)

    def of_functions(self, functions: slice) -> "Scores":
        """Return the scores for some of the functions alone."""
        return dataclasses.replace(self, scores=self.scores[:, functions], p_value=self.p_value[:, functions])


def _significant(values: NDArray[_Float], bits: int, whole: np.ufunc) -> NDArray[_Float]:
    """Return values of so many significant bits, which `whole` makes whole."""
    fraction, exponent = np.frexp(values)
    significant: NDArray[_Float] = np.ldexp(whole(fraction * 2.0**bits) / 2.0**bits, exponent).astype(values.dtype)
    return significant


def compile_kernels(labels: LabelIndex, clusters: Clusters) -> None:
    """Compile what `score` runs: seconds, once on a machine, that would otherwise be taken for those of scoring."""
    score(np.zeros((1, labels.n_instances), np.float32), labels, clusters, n_top=0)


def score(
    activations: NDArray[np.float32],
    labels: LabelIndex,
    clusters: Clusters | None = None,
    *,
    n_top: int = 10,
    n_threads: int = 1,
    walk: DeviceWalk | None = None,
) -> Scores:
    """Score every neuron of a block of C-contiguous activations [neurons, instances] for every function.

    The labels are of the same instances, in the same order, and so are their clusters; without clusters, p-values take
    instances as independent. `n_top` instances a neuron are kept. A `walk` for these labels takes the place of the
    kernel and gives the same but for rounding. The result does not depend on `n_threads`. Raises NonFiniteError if an
    activation is NaN or infinite, IngestError if a function lacks positives or negatives.
    """
    if activations.dtype != np.float32 or activations.ndim != 2 or not activations.flags.c_contiguous:
        raise TypeError("activations must be a C-contiguous float32 array [neurons, instances]")
    n_neurons, n_instances = activations.shape
    if n_instances != labels.n_instances:
        raise ValueError(f"{n_instances} instances of activations, {labels.n_instances} of labels")
    counts = labels.counts()
    for index, (positive, evaluated) in enumerate(counts[:, 0].tolist()):
        if not 0 < positive < evaluated:
            family, function = labels.functions[index]
            counted = f"{positive} positive and {evaluated - positive} negative measured instances"
            raise IngestError(f"function {family}/{function} has {counted}; both are needed")
    n_functions = len(labels.functions)
    n_above = np.empty((n_neurons, n_functions), dtype=np.int64)
    excess = np.empty((n_neurons, n_functions, 2), dtype=np.float64)
    scores = Scores(
        scores=np.empty((n_neurons, n_functions, len(SCORE_NAMES)), dtype=np.float32),
        p_value=np.empty((n_neurons, n_functions), dtype=np.float64),
        correlation=np.empty((n_neurons, len(clusters.names) if clusters else 0), dtype=np.float32),
        statistics=np.empty((n_neurons, len(STATISTIC_NAMES)), dtype=np.float32),
        top_instance=np.full((n_neurons, n_top), -1, dtype=np.int64),
        top_value=np.zeros((n_neurons, n_top), dtype=np.float32),
    )
    filled: list[NDArray[Any]]
    filled = [scores.scores, n_above, excess, scores.statistics, scores.top_instance, scores.top_value]
    packed = labels.packed()

    def run(part: slice) -> None:
        if not walk:
            some = tuple(array[part] for array in filled)
            kernel.score_neurons(activations[part], labels.is_rest, packed, counts, some)
        if not np.isfinite(scores.statistics[part, 0]).all():  # a sum is finite only if every term is
            check_finite(activations)
        if clusters:
            lowest, highest = (scores.statistics[part, STATISTIC_NAMES.index(name)] for name in ("min", "max"))
            scores.correlation[part] = clusters.correlations(activations[part], lowest, highest)

    def compare(part: slice) -> None:
        for index in range(part.start, part.stop):
            positive, evaluated = counts[index, 0].tolist()
            tables = n_above[:, index], positive, evaluated - positive
            if clusters and clusters.names:
                inflation, freedom = clusters.inflation(scores.correlation, index)
                deviate = deviates(excess[:, index] / np.sqrt(inflation)[:, None], *tables)
                scores.p_value[:, index] = tails(deviate, freedom)
            else:
                scores.p_value[:, index] = p_values(excess[:, index], *tables)

    def parts(n: int) -> list[slice]:
        bounds = np.linspace(0, n, 4 * n_threads + 1).astype(int).tolist()
        return [slice(a, b) for a, b in itertools.pairwise(bounds) if a < b]

    with ThreadPoolExecutor(n_threads) as pool:
        if walk:
            walk.score_neurons(activations, *filled)
        list(pool.map(run, parts(n_neurons)))
        list(pool.map(compare, parts(n_functions)))
    return scores


def check_finite(activations: NDArray[np.float32]) -> None:
    """Raise `NonFiniteError` if an activation [neurons, instances] is NaN or infinite."""
    # A sum is finite only if every term is (overflow aside, which the exact test then clears): one fast pass.
    with np.errstate(invalid="ignore"):
        if np.isfinite(activations.sum(dtype=np.float64)):
            return
    wrong = np.argwhere(~np.isfinite(activations))
    if len(wrong):
        neuron, instance = wrong[0].tolist()
        raise NonFiniteError(float(activations[neuron, instance]), neuron, instance)
