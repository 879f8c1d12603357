"""Which experts hold more of a function's top neurons than chance, by tests that SQL alone cannot give.

The views test one list of distinct neurons at a time, which the hypergeometric distribution does exactly. It does not
cover the top lists of a family's functions taken together, which overlap, nor experts permuted among neurons of the
same norm and firing rate, so that an expert of strong or ever-active neurons does not look functional for being that.
"""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from ...errors import AnalysisError, check_known
from ...progress import Progress, SilentProgress
from ...queries.database import Database
from ...schema.conformance import conform
from ...schema.names import IDENTITY_VERSION, identifier
from ...schema.vocabulary import Ranking
from ..lookup import Partition, Run, find_run, starting_with, stored_rows
from ..partitions.chance import layer_seed, strata
from .layer_tests import control_tests, layer_test

_FAMILY = "*"  # stands for all functions of a family
_LIST = ["half", "family", "function"]
_Settings = Mapping[str, int]  # permutations, bins and seed


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """What `align_partition` did for one run."""

    alignment_id: str
    partition_id: str
    run_id: str
    ranking: Ranking  # what chose the top neurons
    is_new: bool  # False if the store already held these tests, so that nothing was done
    null_models: tuple[str, ...]
    n_layers: int
    n_tests: int  # on all instances under each null
    n_permutations: int  # behind the p values of families
    duration_s: float

    def describe(self) -> str:
        """Return what was done as one line."""
        line = f"alignment {self.alignment_id}: partition {self.partition_id} on run {self.run_id}, by {self.ranking}"
        if not self.is_new:
            return f"{line}; already in the store, nothing done"
        line += f", {self.n_tests:,} tests in {self.n_layers} layers, {' and '.join(self.null_models)} null, "
        line += f"{self.n_permutations:,} permutations, {self.duration_s:.1f} s"
        unmatched = "; the run has no norms and firing rates, so none is matched"
        return line if "matched" in self.null_models else line + unmatched


def align_partition(
    partition: str,
    *,
    store: str | os.PathLike[str],
    run: str | None = None,
    n_permutations: int = 100_000,
    n_bins: int = 5,
    seed: int = 0,
    ranking: Ranking = "lift",
    progress: Progress | None = None,
) -> tuple[AlignmentReport, ...]:
    """Test which experts of a partition are functional, and store the tests.

    Each expert is tested for each function of the runs of the partition's model: does it hold more of the function's
    top neurons than chance gives it? Under the null ``free`` a neuron may be in any expert of its layer; under
    ``matched``, where the run has norms and firing rates, only neurons in the same bins of both change places; under
    ``control-word`` and others, where the run has such control functions, the expert holds as many top neurons of a
    function as of functions whose labels were permuted. All instances and each half are tested. One list of neurons is
    tested exactly; the lists of a family's functions together, where they overlap, by permutation; against controls by
    a beta-binomial with the moments of control lists. Controls that a run has gained since make a new alignment.

    Parameters
    ----------
    partition, store, progress
        The partition_id, or its first digits, the store's folder, and where to report.
    run
        run_id of the run to test on, or its first digits; None for all runs of the partition's model and revision.
    n_permutations, seed
        Permutations behind a family's p values, which are at least 1 / (n_permutations + 1), and their seed.
    n_bins
        Quantile bins of norm and of firing rate: the matched null permutes within their crossings.
    ranking
        What neurons are ordered by: ``lift``, or as in Zhang et al. 2023 ``predictivity``, the better of two average
        precisions. Far from a prevalence of one half their top neurons have little in common.

    Raises
    ------
    UnknownNameError, AnalysisError
        If there is no such partition, run or ranking; if there is no run to test on, or a number is out of range.
    StoreError
        If the store cannot be read or written.

    Examples
    --------
    >>> partition_id = neuronlake.open("neuronlake-store").sql("from partitions where method = 'function'").rows()[0][0]
    >>> (report,) = neuronlake.align_partition(partition_id, store="neuronlake-store", n_permutations=99)
    >>> report.is_new
    True
    """
    if n_permutations < 1 or n_bins < 1:
        raise AnalysisError(f"{n_permutations} permutations and {n_bins} bins; both must be at least 1")
    if seed < 0:
        raise AnalysisError(f"seed {seed}; it must be at least 0")
    check_known("ranking", [ranking], get_args(Ranking))
    settings = {"permutations": n_permutations, "bins": n_bins, "seed": seed}
    with Database(store) as database:
        stored = starting_with(database, Partition, partition)
        runs = _runs(database, stored, run)
        shown = progress or SilentProgress()
        return tuple(_align(database, stored, measured, ranking, settings, shown) for measured in runs)


def _runs(database: Database, partition: Partition, run: str | None) -> list[Run]:
    """Return the run of this id, or all that measured the partition's checkpoint in a layer of the partition."""
    if run is not None:
        return [find_run(database, run, partition.model)]
    checkpoint = {"model": partition.model, "revision": partition.revision}
    covering = database.ask("alignment_runs", partition=partition.partition_id, **checkpoint).rows()
    runs = [run for run in stored_rows(database, Run) if (run.run_id,) in covering]
    if not runs:
        problem = f"the store has no run of {partition.model} {partition.revision}"
        raise AnalysisError(f"{problem} that measured a layer of partition {partition.partition_id}")
    return runs


def _align(
    database: Database, partition: Partition, run: Run, ranking: Ranking, settings: _Settings, progress: Progress
) -> AlignmentReport:
    started = time.monotonic()
    partition_id, run_id, store = partition.partition_id, run.run_id, database.store
    drawn = database.ask("alignment_control_draws", run=run_id).rows()
    definition = {"schema_version": IDENTITY_VERSION, "partition": partition_id, "run": run_id, **settings}
    definition |= {"ranking": ranking} if ranking != "lift" else {}
    alignment_id = identifier(definition | ({"controls": drawn} if drawn else {}))
    keys: dict[str, Any] = {"alignment_id": alignment_id, "partition_id": partition_id, "run_id": run_id}
    keys["ranking"] = ranking
    is_new = store.commit(alignment_id) is None
    tests: list[pl.DataFrame] = []
    null_models: tuple[str, ...] = ()
    if is_new:
        experts = _experts(database, partition_id, run_id)
        asked = ("alignment_lists", "alignment_controls")
        lists, controls = (database.ask(name, run=run_id, ranking=ranking).pl() for name in asked)
        if experts.is_empty() or lists.is_empty():
            raise AnalysisError(f"run {run_id} has no scored layer that partition {partition_id} covers")
        permuted = ("free", "matched") if experts["input_norm"].is_not_null().all() else ("free",)
        null_models = (*permuted, *dict.fromkeys(f"control-{control}" for control, _ in drawn))
        layers = experts.partition_by("stack", "layer", maintain_order=True)
        progress.phase("aligning", total=len(layers), unit="layers")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for rows in pool.map(lambda neurons: _layer_tests(neurons, lists, controls, permuted, settings), layers):
                tests.append(rows)
                progress.advance(1)
        checkpoint = {"model": run.model, "revision": run.revision, "step": run.step}
        data = conform("alignments", pl.concat(tests), **keys, **checkpoint, seed=settings["seed"])
        with store.job(alignment_id, kind="alignment") as job:
            job.write("alignments", data, model=run.model, revision=run.revision)
            job.commit()
    return AlignmentReport(
        **keys,
        is_new=is_new,
        null_models=null_models,
        n_layers=len(tests),
        n_tests=sum(rows.filter(null_model="free", half="all").height for rows in tests),
        n_permutations=settings["permutations"],
        duration_s=time.monotonic() - started,
    )


def _experts(database: Database, partition_id: str, run_id: str) -> pl.DataFrame:
    """Return the partition's neurons, which must be of the run, with their norms and firing rates."""
    experts = database.ask("alignment_experts", partition=partition_id, run=run_id).pl()
    for row in experts.filter(pl.col("neuron") >= pl.col("n_neurons")).tail(1).iter_rows(named=True):
        problem = f"partition {partition_id} holds neuron {row['neuron']} of {row['stack']} layer {row['layer']}"
        raise AnalysisError(f"{problem}, which has {row['n_neurons']} neurons in run {run_id}")
    return experts


def _layer_tests(
    neurons: pl.DataFrame, lists: pl.DataFrame, controls: pl.DataFrame, null_models: Sequence[str], settings: _Settings
) -> pl.DataFrame:
    """Return the tests of a layer, given its neurons: a row for each null, half, expert and function (or family)."""
    stack, layer, permutations = neurons["stack"][0], neurons["layer"][0], settings["permutations"]
    seed = layer_seed(settings["seed"], stack, layer)
    names, membership = _membership(neurons, lists.filter(stack=stack, layer=layer))
    experts, places, sizes = np.unique(neurons["expert"].to_numpy(), return_inverse=True, return_counts=True)
    labels = places.astype(np.int32)
    # Lists that no neuron is on twice are tested exactly.
    is_pooled = membership.max(axis=0) > 1
    tests = names.with_columns(n_permutations=pl.when(pl.Series(is_pooled)).then(permutations))
    cells = pl.DataFrame({"stack": stack, "layer": layer, "expert": experts, "n_neurons": sizes})
    cells = cells.join(tests, how="cross")
    frames = []
    for null_model in null_models:
        codes = None
        if null_model == "matched":
            codes = strata(neurons["input_norm"].to_numpy(), neurons["firing_rate"].to_numpy(), settings["bins"])
        test = layer_test(labels, membership, codes, is_pooled=is_pooled, n_permutations=permutations, seed=seed)
        n_top = test.n_top.astype(np.float64)
        nominal = _nominal(n_top, membership, sizes, is_family=(names["function"] == _FAMILY).to_numpy())
        columns = test._asdict() | {"n_top": n_top, "p_nominal": nominal}
        series = {name: pl.Series(values.reshape(-1)) for name, values in columns.items()}
        frames.append(cells.with_columns(null_model=pl.lit(null_model), **series))
    most = np.sort(membership, axis=0)[::-1].cumsum(axis=0)[sizes - 1]
    of_layer = controls.filter(stack=stack, layer=layer)
    for control, rows in control_tests(neurons, names, of_layer, n_top, most).items():
        # Its own columns, NaN where it does not test, take the place of those of the null ``free``.
        tested = frames[0].with_columns(**rows, null_model=pl.lit(f"control-{control}"))
        frames.append(tested.filter(pl.col("p_value").is_not_nan()))
    return pl.concat(frames, how="diagonal_relaxed")


def _membership(neurons: pl.DataFrame, lists: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.int32]]:
    """Return the lists of a layer, families among them, and how often a list holds a neuron. [neurons, lists]."""
    entries = pl.concat([lists, lists.with_columns(function=pl.lit(_FAMILY))])
    # A list that no neuron of an expert is on counts among the tests, as it does in the views.
    names = entries.select(_LIST).unique().sort(_LIST)
    entries = entries.join(names.with_row_index("list"), on=_LIST)
    entries = entries.join(neurons.with_row_index("row").select("neuron", "row"), on="neuron")
    membership = np.zeros((neurons.height, names.height), dtype=np.int32)
    np.add.at(membership, (entries["row"].to_numpy(), entries["list"].to_numpy()), 1)
    return names, membership


def _nominal(
    n_top: NDArray[np.float64], membership: NDArray[np.int32], sizes: NDArray[np.int64], *, is_family: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the p values of the paper's tests: a family's binomial, a function's hypergeometric. [experts, lists]."""
    n_neurons, length = len(membership), membership.sum(axis=0)
    size = np.broadcast_to(sizes[:, None], n_top.shape)
    binomial = stats.binom.sf(n_top - 1, length, size / n_neurons)
    hypergeometric = stats.hypergeom.sf(n_top - 1, n_neurons, size, length)
    return np.asarray(np.clip(np.where(is_family, binomial, hypergeometric), 0, 1))
