"""Which experts hold more of a function's top neurons than chance, by tests that SQL alone cannot give.

The views test one list of distinct neurons at a time, which the hypergeometric distribution does exactly. Here are
the two nulls it does not cover: the top lists of a family's functions taken together, which overlap, and neurons
dealt to experts within strata of like norm and firing rate, so that an expert of strong or ever-active neurons does
not look functional for being that.
"""

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from scipy import stats

from ...errors import AnalysisError
from ...progress import Progress, SilentProgress
from ...queries.database import Database
from ...schema.conformance import arrow_schema
from ...schema.identity import IDENTITY_VERSION, identifier
from ...schema.tables import table
from ..dealing import layer_seed, strata
from ..lookup import Partition, Run, all_runs, find_partition, find_run
from .exact import exact_test
from .permutation import permutation_test

__all__ = ["FAMILY", "AlignmentReport", "align_partition"]

FAMILY = "*"
"""What stands for a whole family where a function's name would be."""

_RUN_COLUMNS = ("run_id", "model", "revision", "step")


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """What `align_partition` did for one run.

    Parameters
    ----------
    alignment_id, partition_id, run_id
        Keys of the rows.
    is_new
        False if the store already held this test, so that nothing was done.
    null_models
        The nulls tested.
    n_layers, n_tests
        Layers, and cells tested on all instances under each null.
    n_permutations
        Permutations behind the p-values of families.
    duration_s
        Wall time.
    """

    alignment_id: str
    partition_id: str
    run_id: str
    is_new: bool
    null_models: tuple[str, ...]
    n_layers: int
    n_tests: int
    n_permutations: int
    duration_s: float

    def describe(self) -> str:
        """Return what was done as one line."""
        line = f"alignment {self.alignment_id}: partition {self.partition_id} on run {self.run_id}"
        if not self.is_new:
            return f"{line}; already in the store, nothing done"
        line += f", {self.n_tests:,} tests in {self.n_layers} layers, {' and '.join(self.null_models)} null, "
        line += f"{self.n_permutations:,} permutations, {self.duration_s:.1f} s"
        if "matched" not in self.null_models:
            line += "; the run has no norms and firing rates, so none is matched"
        return line


def align_partition(
    partition: str,
    *,
    store: str | os.PathLike[str],
    run: str | None = None,
    n_permutations: int = 100_000,
    n_bins: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[AlignmentReport, ...]:
    """Test a partition's experts for the functions of its model's runs, and store the tests.

    Every test is made on all instances and on each half, under the null ``free`` (a neuron may be in any expert of
    its layer) and, where the run has them, ``matched`` (among neurons of like input norm and firing rate). One
    list of neurons is tested exactly; a family's lists together, where they overlap, by permuting neurons' experts.

    Parameters
    ----------
    partition
        The partition_id, or its first digits.
    store
        The store's folder.
    run
        run_id of the run to test on, or its first digits; None for all runs of the partition's model and revision.
    n_permutations
        Permutations behind a family's p-values, which are at least 1 / (n_permutations + 1).
    n_bins
        Quantile bins of norm and of firing rate, crossed, that the matched null permutes within.
    seed
        Seed of the permutations.
    progress
        Where to report.

    Raises
    ------
    UnknownNameError
        If there is no such partition or run.
    AnalysisError
        If there is no run to test on, or a number is out of range.
    StoreError
        If the store cannot be read or written.
    """
    if n_permutations < 1 or n_bins < 1:
        raise AnalysisError(f"{n_permutations} permutations and {n_bins} bins; both must be at least 1")
    progress = progress or SilentProgress()
    with Database(store) as database:
        found = find_partition(database, partition)
        runs = _runs(database, found, run)
        return tuple(_align(database, found, each, n_permutations, n_bins, seed, progress) for each in runs)


def _runs(database: Database, partition: Partition, run: str | None) -> list[Run]:
    """Return the run of this id, or all that measured the partition's checkpoint in a layer of the partition."""
    if run is not None:
        return [find_run(database, run, partition.model)]
    query = "select distinct run_id from layers join partition_layers using (stack, layer) where partition_id = ?"
    covering = {run_id for (run_id,) in database.sql(query, [partition.partition_id]).rows()}
    checkpoint = (partition.model, partition.revision)
    runs = [run for run in all_runs(database) if (run.model, run.revision) == checkpoint and run.run_id in covering]
    if not runs:
        raise AnalysisError(
            f"the store has no run of {partition.model} {partition.revision} that measured a layer of partition "
            f"{partition.partition_id}"
        )
    return runs


def _align(
    database: Database,
    partition: Partition,
    run: Run,
    n_permutations: int,
    n_bins: int,
    seed: int,
    progress: Progress,
) -> AlignmentReport:
    started = time.monotonic()
    partition_id, run_id = partition.partition_id, run.run_id
    alignment_id = identifier(
        {
            "schema_version": IDENTITY_VERSION,
            "partition": partition_id,
            "run": run_id,
            "permutations": n_permutations,
            "bins": n_bins,
            "seed": seed,
        }
    )
    null_models: tuple[str, ...] = ()
    tables: list[pa.Table] = []
    n_layers = n_tests = 0
    is_new = database.store.commit(alignment_id) is None
    if is_new:
        experts, tops = _inputs(database, partition_id, run_id)
        has_norms = bool(experts["input_norm"].is_not_null().all())
        null_models = ("free", "matched") if has_norms else ("free",)
        layers = experts.partition_by("stack", "layer", maintain_order=True)
        n_layers = len(layers)
        progress.phase("aligning", total=n_layers, unit="layers")
        keys = {name: getattr(run, name) for name in _RUN_COLUMNS}
        constants = {**keys, "alignment_id": alignment_id, "partition_id": partition_id, "seed": seed}

        def test(neurons: pl.DataFrame) -> pl.DataFrame:
            stack, layer = neurons["stack"][0], neurons["layer"][0]
            lists = tops.filter((pl.col("stack") == stack) & (pl.col("layer") == layer))
            own_seed = layer_seed(seed, stack, layer)
            cells = _layer_cells(neurons, lists, null_models, n_permutations, n_bins, own_seed)
            return cells.with_columns(stack=pl.lit(stack), layer=pl.lit(layer))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for cells in pool.map(test, layers):
                n_tests += cells.filter((pl.col("null_model") == "free") & (pl.col("half") == "all")).height
                tables.append(_rows(cells, constants))
                progress.advance(1)
        with database.store.job(alignment_id, kind="alignment") as job:
            job.write("alignments", pa.concat_tables(tables), model=run.model, revision=run.revision)
            job.commit()
    return AlignmentReport(
        alignment_id=alignment_id,
        partition_id=partition_id,
        run_id=run_id,
        is_new=is_new,
        null_models=null_models,
        n_layers=n_layers,
        n_tests=n_tests,
        n_permutations=n_permutations,
        duration_s=time.monotonic() - started,
    )


def _inputs(database: Database, partition_id: str, run_id: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the partition's neurons with their norms and firing rates, and the top lists that hold them."""
    experts = database.sql(
        """
        select
            experts.stack,
            experts.layer,
            experts.neuron,
            experts.expert,
            neurons.input_norm,
            neurons.firing_rate,
            layers.n_neurons,
        from experts
        inner join layers
            on layers.run_id = $run
            and layers.stack = experts.stack
            and layers.layer = experts.layer
        left join neurons
            on neurons.run_id = $run
            and neurons.stack = experts.stack
            and neurons.layer = experts.layer
            and neurons.neuron = experts.neuron
        where experts.partition_id = $partition
        order by all
        """,
        {"run": run_id, "partition": partition_id},
    ).pl()
    tops = database.sql(
        """
        select
            'all' as half,
            stack,
            layer,
            family,
            function,
            neuron,
        from top_neurons
        where run_id = $run
        union all
        select
            half,
            stack,
            layer,
            family,
            function,
            neuron,
        from held_out_top_neurons
        where run_id = $run
        order by all
        """,
        {"run": run_id},
    ).pl()
    beyond = experts.filter(pl.col("neuron") >= pl.col("n_neurons"))
    if beyond.height:
        stack, layer, neuron, n_neurons = beyond.select("stack", "layer", "neuron", "n_neurons").row(-1)
        raise AnalysisError(
            f"partition {partition_id} holds neuron {neuron} of {stack} layer {layer}, which has {n_neurons} neurons "
            f"in run {run_id}"
        )
    if experts.is_empty() or tops.is_empty():
        raise AnalysisError(f"run {run_id} has no scored layer that partition {partition_id} covers")
    return experts, tops


def _layer_cells(
    neurons: pl.DataFrame, tops: pl.DataFrame, null_models: tuple[str, ...], n_permutations: int, n_bins: int, seed: int
) -> pl.DataFrame:
    """Return one row a null, half, expert and function (or family) of a layer."""
    experts = np.sort(neurons["expert"].unique().to_numpy())
    labels = np.searchsorted(experts, neurons["expert"].to_numpy()).astype(np.int32)
    sizes = np.bincount(labels)
    entries = pl.concat([tops, tops.with_columns(function=pl.lit(FAMILY))])
    # A list that no neuron of an expert is on counts among the tests, as it does in the views.
    names = entries.select("half", "family", "function").unique().sort("half", "family", "function")
    entries = entries.join(names.with_row_index("list"), on=["half", "family", "function"])
    entries = entries.join(neurons.with_row_index("row").select("neuron", "row"), on="neuron")
    membership = np.zeros((len(labels), names.height), dtype=np.int32)
    np.add.at(membership, (entries["row"].to_numpy(), entries["list"].to_numpy()), 1)
    # Lists that no neuron is on twice are tested exactly.
    is_pooled = membership.max(axis=0) > 1
    length, size = membership.sum(axis=0), sizes[:, None]
    is_family = (names["function"] == FAMILY).to_numpy()
    cells = []
    for null_model in null_models:
        codes = None
        if null_model == "matched":
            codes = strata(neurons["input_norm"].to_numpy(), neurons["firing_rate"].to_numpy(), n_bins=n_bins)
        exact = exact_test(labels, membership[:, ~is_pooled], codes)
        pooled = permutation_test(labels, membership[:, is_pooled], codes, n_permutations=n_permutations, seed=seed)
        n_top, n_expected, p_value = (np.empty((len(experts), names.height)) for _ in range(3))
        for test, columns in ((exact, ~is_pooled), (pooled, is_pooled)):
            n_top[:, columns], n_expected[:, columns], p_value[:, columns] = test.n_top, test.n_expected, test.p_value
        nominal = np.where(
            is_family,
            stats.binom.sf(n_top - 1, length, size / len(labels)),
            stats.hypergeom.sf(n_top - 1, len(labels), np.broadcast_to(size, n_top.shape), length),
        )
        cells.append(
            pl.concat([names.with_columns(n_permutations=np.where(is_pooled, n_permutations, 0))] * len(experts))
            .with_columns(
                null_model=pl.lit(null_model),
                expert=np.repeat(experts, names.height).astype(np.int32),
                n_neurons=np.repeat(sizes, names.height).astype(np.int32),
                n_top=n_top.reshape(-1).astype(np.int32),
                n_expected=n_expected.reshape(-1),
                p_value=p_value.reshape(-1),
                p_nominal=np.clip(nominal, 0, 1).reshape(-1),
            )
            .with_columns(pl.col("n_permutations").replace(0, None))
        )
    return pl.concat(cells)


def _rows(cells: pl.DataFrame, constants: Mapping[str, object]) -> pa.Table:
    schema = arrow_schema(table("alignments"))
    arrow = cells.with_columns(**{name: pl.lit(value) for name, value in constants.items()}).to_arrow()
    return arrow.select(schema.names).cast(schema)
