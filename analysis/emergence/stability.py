"""How similar scores are at two checkpoints: the rows of view ``unstored_stability``, each run's scores read once.

The view is the definition, and computes what is not stored. It ranks lists in SQL; ranked as arrays the same whole
numbers take a twentieth of the time.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from ...progress import Progress
from ...queries.database import Database
from ...schema.conformance import conform
from ...schema.names import IDENTITY_VERSION, identifier
from .series import Series

# Scores of a run that are read at a time, about 250 bytes of memory each. Enters the job's name: parts depend on it.
_BATCH_SCORES = 2**22
_UNKNOWN = -(2**31)  # NULL among whole billionths
_HALVES = ("", "_half_a", "_half_b")  # of the names of scores: all instances, and either half
_KEYS = ("run_id", "revision", "step", "reference_run_id", "stack", "layer")

_Layer = tuple[str, int]  # stack and index
_Widths = Sequence[tuple[_Layer, int]]  # of some layers
_Pair = dict[str, Any]  # a row of statement emergence_unstored


class _Ranks(NamedTuple):
    """Centred ranks of units for each function, and the sums of their squares."""

    ranks: NDArray[np.int32]  # [functions, units]
    squares: NDArray[np.float64]  # [functions]

    def spearman(self, other: "_Ranks") -> NDArray[np.float64]:
        """Return the correlations, as macro ``spearman``: NaN where all ranks of either are equal. [functions]."""
        with np.errstate(invalid="ignore"):
            return _products(self.ranks, other.ranks) / np.sqrt(self.squares * other.squares)


class _Scores:
    """The scores of a run in one layer, and their ranks for the last comparison that asked for them.

    Of signed lift on all instances, on half a and on half b, and of predictivity: always in this order.
    """

    def __init__(self, scores: NDArray[np.int32]) -> None:
        self.scores = scores  # whole billionths [4, neurons, functions]
        self.is_scored = (scores[-1] != _UNKNOWN).any(axis=0)  # [functions]
        self._ranks: dict[tuple[str, int], tuple[object, _Ranks]] = {}

    def ranks(self, partition_id: str, experts: NDArray[np.int64], pair: _Pair) -> list[_Ranks]:
        """Return the ranks of a partition's experts, or of neurons (*).

        Neurons that are dead at either checkpoint count for predictivity alone.
        """
        for index, scores in enumerate(self.scores):
            dead, key = (pair["dead"], pair["dead_hash"]) if index < len(_HALVES) else ([], None)
            if self._ranks.get((partition_id, index), (self,))[0] != key:
                members = experts.copy()
                members[dead] = -1
                ranks = _centred_ranks(scores[members >= 0] if partition_id == "*" else _means(scores, members))
                self._ranks[partition_id, index] = key, _Ranks(ranks, _products(ranks, ranks))
        return [self._ranks[partition_id, index][1] for index in range(len(self.scores))]


_Held = Mapping[str, Mapping[_Layer, _Scores]]  # by run
_Experts = Mapping[tuple[object, ...], pl.DataFrame]  # neurons and their experts, by partition, stack and layer


def store_stability(database: Database, series: Series, partition_ids: Sequence[str], progress: Progress) -> bool:
    """Store what table ``stabilities`` lacks of the neurons of a series and of partitions; return if there was any."""
    runs = [checkpoint.run_id for checkpoint in series.checkpoints]
    asked = {"model": series.model, "runs": runs, "partitions": ["*", *partition_ids]}
    pairs = database.ask("emergence_unstored", **asked).arrow().to_pylist()
    compared = sorted({(each["run_id"], each["reference_run_id"], units) for each in pairs for units in each["units"]})
    name = identifier({"schema_version": IDENTITY_VERSION, "stability": compared, "scores": _BATCH_SCORES})
    if not compared or database.store.commit(name) is not None:
        return False
    measured = database.ask("emergence_functions", runs=runs).pl()
    functions = measured.unique("place").sort("place").select("family", "function")
    query = "select partition_id, stack, layer, neuron, expert from experts where partition_id in ?"
    members = database.sql(query, [list(partition_ids)]).pl()
    experts = members.partition_by("partition_id", "stack", "layer", as_dict=True)
    parts = _parts(pairs, functions.height)
    progress.phase("comparing checkpoints", total=len(parts), unit="batches")
    with database.store.job(name, kind="stability") as job, ThreadPoolExecutor() as pool:
        # A run, the ones before and after it, and the last.
        read = functools.lru_cache(maxsize=4)(functools.partial(_read, database, measured, pool))
        for part, chosen in enumerate(parts):
            if not job.is_staged("stabilities", part):
                widths: dict[str, dict[_Layer, int]] = {}
                for pair, run in ((pair, pair[role]) for pair in chosen for role in ("run_id", "reference_run_id")):
                    widths.setdefault(run, {})[pair["stack"], pair["layer"]] = pair["n_neurons"]
                held = {run: read(run, tuple(layers.items())) for run, layers in widths.items()}
                of_layers = (list(each) for _, each in itertools.groupby(chosen, lambda pair: pair["layer"]))
                rows = pl.concat(pool.map(functools.partial(_compared, held, experts, functions), of_layers))
                table = conform("stabilities", rows, model=series.model)
                job.write("stabilities", table, part=part, model=series.model)
            progress.advance(1)
        job.commit()
    return True


def _parts(pairs: Sequence[_Pair], n_functions: int) -> list[list[_Pair]]:
    """Return what to compare in each part: one run, in some layers of a stack; the runs of the same layers by step."""
    widths = {(pair["stack"], pair["layer"]): pair["n_neurons"] for pair in pairs}
    ends = itertools.accumulate(n_functions * width for width in widths.values())
    batches = {layer: (layer[0], end // _BATCH_SCORES) for layer, end in zip(widths, ends, strict=True)}
    parts: dict[object, list[_Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: (batches[pair["stack"], pair["layer"]], pair["step"])):
        parts.setdefault((batches[pair["stack"], pair["layer"]], pair["step"]), []).append(pair)
    return list(parts.values())


def _read(
    database: Database, measured: pl.DataFrame, pool: ThreadPoolExecutor, run: str, widths: _Widths
) -> dict[_Layer, _Scores]:
    """Return the scores of a run in layers of one stack, given the number of neurons of each."""
    layers, sizes = [layer for (_, layer), _ in widths], [width for _, width in widths]
    functions = measured.select("family", "function", "place").unique()
    of_run = measured.filter(run_id=run)
    chance = np.full((len(_HALVES), functions.height), 0.5)
    chance[:, of_run["place"].to_numpy()] = [of_run[f"prevalence{half}"].to_numpy() for half in _HALVES]
    ends = np.cumsum(sizes)
    starts = np.zeros(max(layers) + 1, dtype=np.int64)  # of each layer's neurons
    starts[layers] = ends - sizes
    scores = np.full((len(_HALVES) + 1, ends[-1], functions.height), _UNKNOWN, dtype=np.int32)
    asked = {"functions": functions.to_dicts(), "run": run, "stack": widths[0][0][0], "layers": layers}

    def fill(batch: pa.RecordBatch) -> None:
        layer, neuron, place = (batch[name].to_numpy() for name in ("layer", "neuron", "place"))
        names = [name + half for half in _HALVES for name in ("ap", "ap_complement")]
        averages = np.stack([batch[name].to_numpy(zero_copy_only=False) for name in names])  # NaN where unknown
        _fill(scores, starts[layer] + neuron, place, averages, chance)

    list(pool.map(fill, database.ask("emergence_scores", **asked).arrow().to_batches()))
    of_layers = np.split(scores, ends[:-1], axis=1)
    return {layer: _Scores(each) for (layer, _), each in zip(widths, of_layers, strict=True)}


def _compared(held: _Held, experts: _Experts, functions: pl.DataFrame, pairs: Sequence[_Pair]) -> pl.DataFrame:
    """Return the rows of pairs in one layer, of each function that both runs have scores of."""
    frames = []
    for pair, partition_id in [(each, units) for each in pairs for units in each["units"]]:
        layer = pair["stack"], pair["layer"]
        expert = np.arange(pair["n_neurons"])  # of each neuron, -1 of none
        if partition_id != "*":
            members = experts[partition_id, *layer]
            expert[:] = -1
            expert[members["neuron"].to_numpy()] = members["expert"].to_numpy()
        both = held[pair["run_id"]][layer], held[pair["reference_run_id"]][layer]
        own, own_a, own_b, paper = both[0].ranks(partition_id, expert, pair)
        other, a, b, other_paper = both[1].ranks(partition_id, expert, pair)
        columns = {key: pair[key] for key in _KEYS} | {
            "partition_id": partition_id,
            "n_units": own.ranks.shape[1],
            "n_dead": np.count_nonzero(expert[pair["dead"]] >= 0) if pair["is_known"] else None,
            "correlation": own.spearman(other),
            "correlation_half_a": own_a.spearman(a),
            "correlation_half_b": own_b.spearman(b),
            "split_half_correlation": own_a.spearman(own_b),
            "reference_split_half_correlation": a.spearman(b),
            "cross_half_correlation": (own_a.spearman(b) + own_b.spearman(a)) / 2,
            "paper_correlation": paper.spearman(other_paper),
        }
        rows = functions.with_columns(**{name: pl.lit(value) for name, value in columns.items()})
        frames.append(rows.filter(both[0].is_scored & both[1].is_scored))
    return pl.concat(frames, how="vertical_relaxed").fill_nan(None)


def _means(scores: NDArray[np.int32], experts: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return experts' mean scores, in whole billionths, from scores [neurons, functions]; an expert is -1 of none."""
    order = np.argsort(experts, kind="stable")[np.count_nonzero(experts < 0) :]
    _, starts = np.unique(experts[order], return_index=True)
    is_known = scores[order] != _UNKNOWN
    sums = np.add.reduceat(np.where(is_known, scores[order], 0), starts, dtype=np.int64)  # [experts, functions]
    with np.errstate(invalid="ignore"):
        means = sums / np.add.reduceat(is_known, starts, dtype=np.int64)
    return np.nan_to_num(np.copysign(np.floor(np.abs(means) + 0.5), means), nan=_UNKNOWN).astype(np.int32)


@njit(nogil=True, cache=True)
def _billionths(score: float) -> int:
    """Return what macro ``billionths`` does; `_UNKNOWN` of NaN."""
    if np.isnan(score):
        return _UNKNOWN
    whole = int(score * 1e9)
    rest = score * 1e9 - whole
    return whole + (rest >= 0.5) - (rest <= -0.5)


@njit(nogil=True, cache=True)
def _fill(
    scores: NDArray[np.int32],
    neurons: NDArray[np.int64],
    functions: NDArray[np.int32],
    averages: NDArray[np.float32],
    prevalence: NDArray[np.float64],
) -> None:
    """Fill in scores [4, neurons, functions], as macros ``signed_lift`` and ``predictivity`` define them.

    From rows of a neuron, a function and the average precisions of both it and its complement [6, rows].
    """
    for row in range(len(neurons)):
        neuron, function = neurons[row], functions[row]
        for half in range(len(prevalence)):
            chance = prevalence[half, function]
            above, below = averages[2 * half, row] - chance, averages[2 * half + 1, row] - (1 - chance)
            # As SQL's greatest, fmax is that of the two which is known.
            lift = np.fmax(above, below) / max(chance, 1 - chance)
            scores[half, neuron, function] = _billionths(lift if above >= below else -lift)
        scores[-1, neuron, function] = _billionths(np.float64(np.fmax(averages[0, row], averages[1, row])))


@njit(nogil=True, cache=True)
def _centred_ranks(scores: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return what macro ``centred_ranks`` does, from scores [units, functions]; zeros where one is unknown."""
    n_units, n_functions = scores.shape
    ranks = np.zeros((n_functions, n_units), dtype=np.int32)
    keys, spare = np.empty((2, n_units), dtype=np.int64)
    for function in range(n_functions):
        is_known = True
        for unit in range(n_units):
            score = scores[unit, function]
            is_known &= score != _UNKNOWN
            keys[unit] = ((np.int64(score) - _UNKNOWN) << 31) | unit
        if not is_known:
            continue
        for shift in (31, 42, 53):  # of the scores' digits of 11 bits, the last first
            places = np.zeros(2049, dtype=np.int64)
            for key in keys:
                places[((key >> shift) & 2047) + 1] += 1
            for digit in range(2047):
                places[digit + 1] += places[digit]
            for key in keys:
                digit = (key >> shift) & 2047
                spare[places[digit]] = key
                places[digit] += 1
            keys, spare = spare, keys
        start = 0
        for stop in range(1, n_units + 1):
            if stop == n_units or keys[stop] >> 31 != keys[start] >> 31:
                for index in range(start, stop):
                    ranks[function, keys[index] & (2**31 - 1)] = start + stop - n_units
                start = stop
    return ranks


def _products(ranks: NDArray[np.int32], others: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the inner product of ranks [functions, units] for each function: of whole numbers, so exact."""
    return np.asarray(np.einsum("fu,fu->f", ranks, others, dtype=np.float64))
