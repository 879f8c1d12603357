"""What comes first: the functions a neuron is the best evidence of, and the neurons that rank highest for a function.

Both follow from scores, in the arithmetic of the views ``neuron_scores``, ``family_best`` and ``live_top_lists``,
which compute them where a store lacks them: in double precision, but for differences of two stored scores.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

HALVES = ("", "_half_a", "_half_b")  # endings of columns: of all instances, and of either half
SCORE_NAMES = (
    *("ap", "ap_complement", "auroc", "mean_positive", "mean_negative"),
    *("ap_half_a", "ap_half_b", "ap_complement_half_a", "ap_complement_half_b"),
)

_Array = NDArray[np.float64]
_EULER = 0.5772156649015329
_SQUARES = 1.6449340668482264  # pi ** 2 / 6


@dataclass(frozen=True, slots=True)
class Chance:
    """What scores of functions are compared with, of all instances, half a and half b."""

    prevalence: _Array  # NaN where unknown [3, functions]
    # Mean and deviation of average precision under permutation, of positives and of negatives [3, 2, functions]
    mean: _Array
    deviation: _Array

    @classmethod
    def of(cls, positive: NDArray[np.int64], evaluated: NDArray[np.int64]) -> "Chance":
        """Return the chance of functions with so many positives of so many instances, [3, functions] both."""
        with np.errstate(divide="ignore", invalid="ignore"):
            n = np.where(evaluated > 0, evaluated, np.nan)
            h = np.log(n) + _EULER + 1 / (2 * n) - 1 / (12 * n**2)
            h2 = _SQUARES - 1 / n + 1 / (2 * n**2) - 1 / (6 * n**3)
            moments = [_moments(of, n, h, h2) for of in (positive, evaluated - positive)]
            mean, deviation = (np.stack(of, axis=1) for of in zip(*moments, strict=True))
            return cls(positive / n, mean, deviation)


def _moments(positive: NDArray[np.int64], n: _Array, h: _Array, h2: _Array) -> tuple[_Array, _Array]:
    """Return mean and deviation of average precision under permutation, as `chance_ap` in macros.sql."""
    mean = (h + (positive - 1) / np.maximum(n - 1, 1) * (n - h)) / n
    pairs = 3 * h - 5 * h2 + 2 * h * h
    triples = 2 * h * (n - h) + 5 * n - 9 * h + 7 * h2 - 3 * h * h
    quadruples = (n - h) ** 2 - 5 * n + 6 * h - 3 * h2 + 2 * h * h
    inner = triples + (positive - 3) / np.maximum(n - 3, 1) * quadruples
    inner = pairs + (positive - 2) / np.maximum(n - 2, 1) * inner
    inner = h2 + (positive - 1) / np.maximum(n - 1, 1) * inner
    square = inner / n / np.where(positive > 0, positive, np.nan)
    return mean, np.sqrt(np.maximum(0, square - mean**2))


@dataclass(frozen=True, slots=True)
class Ranked:
    """The scores of some neurons of a layer for some functions, sorted by family and name, and how they rank."""

    functions: Sequence[tuple[str, str]]
    scores: NDArray[np.float32]  # as in `Scores`; NaN where unknown [neurons, functions, 9]
    p_value: NDArray[np.float32]  # NaN where unknown [neurons, functions]
    chance: Chance

    def best(self) -> dict[str, object]:
        """Return the columns of ``neuron_best`` after its keys, a row for each neuron and family."""
        n_neurons = len(self.scores)
        order = np.where(np.isnan(self.p_value), np.inf, self.p_value)
        ranking, evidence, held_out_lift, error = self._lift(0), self._evidence(), self._held_out_lift(), self._error()
        families, names = zip(*self.functions, strict=True)
        starts = [place for place, family in enumerate(families) if place == 0 or families[place - 1] != family]
        rows = np.arange(n_neurons)
        chosen = np.full((4, n_neurons, len(starts)), -1)  # best, second, held out, and number of functions
        for place, (start, stop) in enumerate(itertools.pairwise([*starts, len(families)])):
            p, by_lift, on_half = order[:, start:stop].copy(), ranking[:, start:stop].copy(), evidence[:, start:stop]
            best = _first(p, by_lift)
            p[rows, best], by_lift[rows, best] = np.inf, -np.inf
            held_out = np.where(np.isnan(on_half), -np.inf, on_half).argmax(axis=1)
            chosen[0, :, place] = start + best
            chosen[1, :, place] = start + _first(p, by_lift) if stop - start > 1 else -1
            chosen[2, :, place] = np.where(np.isnan(on_half[rows, held_out]), -1, start + held_out)
            chosen[3, :, place] = stop - start
        best, second, held_out, n_functions = chosen.reshape(4, -1)
        neuron = np.repeat(rows, len(starts))

        def taken(values: NDArray[np.floating], place: NDArray[np.int64]) -> pa.Array:
            return pa.array(np.where(place < 0, np.nan, values[neuron, place]).astype(np.float32), from_pandas=True)

        def named(place: NDArray[np.int64]) -> pa.Array:
            return pa.array(names).take(pa.array(place, mask=place < 0))

        ap, ap_complement = (self._named(name) for name in ("ap", "ap_complement"))
        return {
            "neuron": neuron,
            "family": pa.array(families).take(pa.array(np.tile(starts, n_neurons))),
            "function": named(best),
            "n_functions": n_functions,
            "ap": taken(ap, best),
            "ap_complement": taken(ap_complement, best),
            "p_value": taken(self.p_value, best),
            "lift_error": taken(error, best),
            "second_function": named(second),
            "second_ap": taken(ap, second),
            "second_ap_complement": taken(ap_complement, second),
            "held_out_function": named(held_out),
            "held_out_evidence": taken(evidence, held_out),
            "held_out_lift": taken(held_out_lift, held_out),
        }

    def top(self) -> dict[str, object]:
        """Return the columns of ``function_top_neurons`` after its keys, for a whole layer."""
        n_top = max(1, len(self.scores) // 100)
        parts = []  # function, ranking, half, rank and neuron
        for half in range(3):
            rankings: tuple[NDArray[np.floating], ...] = self._lift(half), self._predictivity(half)
            for ranking, values in enumerate(rankings):
                for function, neurons in enumerate(_highest(values, n_top)):
                    rank = np.arange(1, len(neurons) + 1)
                    parts.append(np.stack(np.broadcast_arrays(function, ranking, half, rank, neurons)))
        rows = np.concatenate(parts, axis=1)
        function, ranking, half, rank, neuron = rows[:, np.lexsort(rows[2::-1])]
        ap, ap_complement = (self._named(name) for name in ("ap", "ap_complement"))
        families, names = zip(*self.functions, strict=True)
        return {
            "family": pa.array(families).take(pa.array(function)),
            "function": pa.array(names).take(pa.array(function)),
            "ranked_by": pa.array(["lift", "predictivity"]).take(pa.array(ranking)),
            "half": pa.array(["all", "a", "b"]).take(pa.array(half)),
            "rank": rank,
            "neuron": neuron,
            "ap": ap[neuron, function],
            "ap_complement": pa.array(ap_complement[neuron, function], from_pandas=True),
        }

    def _named(self, name: str) -> NDArray[np.float32]:
        return self.scores[:, :, SCORE_NAMES.index(name)]

    def _pair(self, half: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return average precision and that of the complement, of all instances (0), half a (1) or b (2)."""
        return self._named(f"ap{HALVES[half]}"), self._named(f"ap_complement{HALVES[half]}")

    def _rises(self, half: int) -> tuple[_Array, _Array]:
        """Return how far both average precisions rise above chance, as shares of the most possible."""
        prevalence = self.chance.prevalence[half]
        ap, ap_complement = self._pair(half)
        most = np.maximum(prevalence, 1 - prevalence)
        return (ap - prevalence) / most, (ap_complement - (1 - prevalence)) / most

    def _predictivity(self, half: int) -> NDArray[np.float32]:
        return np.fmax(*self._pair(half))

    def _lift(self, half: int) -> _Array:
        """Return what the ranking by lift orders by: predictivity where the prevalence is unknown."""
        lift = np.fmax(*self._rises(half))
        return np.where(np.isnan(self.chance.prevalence[half]), self._predictivity(half), lift)

    def _evidence(self) -> NDArray[np.float32]:
        """Return by how many deviations of chance the better direction is above chance on half a, or its ranking."""
        with np.errstate(divide="ignore", invalid="ignore"):
            mean, deviation = self.chance.mean[1], self.chance.deviation[1]
            deviates = (np.stack(self._pair(1), axis=1) - mean) / np.where(deviation > 0, deviation, np.nan)
        evidence = np.fmax(deviates[:, 0], deviates[:, 1])
        ranking = self._lift(1)
        evidence = np.where(np.isnan(ranking), np.nan, np.where(np.isnan(evidence), ranking, evidence))
        return evidence.astype(np.float32)

    def _held_out_lift(self) -> _Array:
        """Return the lift on half b in the direction whose lift is better on half a."""
        ap, ap_complement = self._pair(1)
        preference = (ap - ap_complement + np.float32(1)) - 2 * self.chance.prevalence[1]
        return _in_direction(preference, *self._rises(2))

    def _error(self) -> _Array:
        """Return half the distance of the lifts on both halves, in the direction of all instances."""
        (ap, ap_complement), prevalence = self._pair(0), self.chance.prevalence[0]
        preference = ap - prevalence - (ap_complement - (1 - prevalence))
        in_a, in_b = (_in_direction(preference, *self._rises(half)) for half in (1, 2))
        return np.abs(in_a - in_b) / 2


def _in_direction(preference: _Array, positive: _Array, complement: _Array) -> _Array:
    return np.where(preference >= 0, positive, np.where(preference < 0, complement, np.nan))


def _first(order: _Array, ranking: _Array) -> NDArray[np.int64]:
    """Return the column of each row that is least in `order`, then highest in `ranking`, then first."""
    first: NDArray[np.int64] = np.where(order == order.min(axis=1, keepdims=True), ranking, -np.inf).argmax(axis=1)
    return first


def _highest(values: NDArray[np.floating], n: int) -> list[NDArray[np.int64]]:
    """Return by column the rows of the n highest values, highest first; ties go to the first row, NaN is left out."""
    descending = -values
    cut = np.partition(descending, min(n, len(values)) - 1, axis=0)[min(n, len(values)) - 1]  # NaN sorts last
    highest = []
    for column, last in zip(descending.T, cut, strict=True):
        rows = np.flatnonzero(~np.isnan(column) if np.isnan(last) else column <= last)
        highest.append(rows[np.argsort(column[rows], kind="stable")][:n])
    return highest
