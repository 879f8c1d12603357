"""A study on tiny models: its tables conform, all kinds run, and nothing is done twice."""

import shutil

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from elsewhere import Elsewhere

from neuronlake.analysis.partitions.job import partition_model
from neuronlake.analysis.partitions.settings import PartitionSettings
from neuronlake.analysis.perturbation import sources
from neuronlake.analysis.perturbation.passes import readable
from neuronlake.analysis.perturbation.settings import PerturbationSettings
from neuronlake.analysis.perturbation.study import study_perturbation
from neuronlake.analysis.readouts.probe import ProbeReadout
from neuronlake.errors import AnalysisError
from neuronlake.schema.conformance import arrow_schema, check
from neuronlake.schema.tables import TABLES

PERTURBATION_TABLES = [each for each in TABLES.values() if "perturbation_id" in each.column_names]
QUICK = {"n_bootstrap": 50, "n_permutations": 49, "n_seeds": 2}
CLAMPED = (
    "select stack, layer, neuron, max as value, 'f' as family, (neuron % 2)::varchar as function from neurons "
    "where neuron < 20 order by layer, neuron"
)


@pytest.fixture
def reads(monkeypatch):
    """Return a list that grows with each pass over the texts; the pass that its attribute `fails_at` says fails."""

    class Reads(list):
        fails_at = None

    counted = Reads()
    read = ProbeReadout.read

    def counting(self, advance=None):
        if len(counted) == counted.fails_at:
            raise KeyboardInterrupt
        counted.append(self)
        return read(self, advance)

    monkeypatch.setattr(ProbeReadout, "read", counting)
    return counted


def rows(store, table, job=None):
    return pl.concat([pl.read_parquet(path) for path in store.files(table, job=job)])


def results(store, report):
    """Return what a study has found, without what says how and when."""
    found = {}
    for table in {each.name for each in PERTURBATION_TABLES} - {"perturbation_studies"}:
        found[table] = rows(store, table, report.perturbation_id).drop("perturbation_id").rows()
    return found


def test_tables_conform_and_the_store_has_no_problem(studied, perturbed):
    store = studied("bert")
    report = perturbed(store, is_top=True, doses=(0.05, 0.1))
    for table in PERTURBATION_TABLES:
        found = [pq.read_table(path, partitioning=None) for path in store.files(table.name, job=report.perturbation_id)]
        assert found
        for each in found:
            assert each.schema.remove_metadata() == arrow_schema(table)
            check(table, each)
    assert store.check() == ()
    (row,) = rows(store, "perturbation_studies").to_dicts()
    assert row["n_sources"] == row["n_targets"] == 3
    assert row["n_layer_neurons"] == 128
    # Three sources at two doses: their own, and of two seeds each random, matched.
    assert row["n_cells"] == sum(report.n_cells.values()) == 1 + 6 + 4 + 12
    assert (row["n_cells_reused"], row["layers"], row["selection"], row["scale"]) == (0, None, "top", 1.0)


def test_a_killed_study_goes_on_where_it_was(studied, perturbed, reads, tmp_path):
    store = studied("bert")
    whole = type(store)(shutil.copytree(store.path, tmp_path / "whole"))
    options = {"is_top": True, "doses": (0.1,), "kind": "noise"}
    undisturbed = perturbed(whole, **options)
    n_reads = len(reads)
    assert n_reads == sum(undisturbed.n_cells.values()) == 1 + 6 + 2 + 6
    reads.clear()
    reads.fails_at = 5
    with pytest.raises(KeyboardInterrupt):
        perturbed(store, **options)
    assert len(store.commits()) == len(whole.commits()) - 1
    assert store.files("perturbations") == ()
    reads.fails_at = None
    reads.clear()
    report = perturbed(store, **options)
    # The model as it is is read again, and each cell that was not.
    assert len(reads) == n_reads - 4
    assert (report.n_cells_reused, sum(report.n_cells.values()), report.is_new) == (4, n_reads, True)
    assert results(store, report) == results(whole, undisturbed)
    assert store.check() == ()


@pytest.mark.slow
def test_cells_that_workers_read_are_those_read_here(studied, perturbed, tmp_path):
    store, engine = studied("bert"), Elsewhere()
    here = type(store)(shutil.copytree(store.path, tmp_path / "here"))
    options = {"is_top": True, "doses": (0.1,), "kind": "noise"}
    elsewhere, report = perturbed(store, engine=engine, **options), perturbed(here, **options)
    assert len(engine.done) == sum(report.n_cells.values()) - 1
    assert (elsewhere.perturbation_id, elsewhere.n_cells_reused) == (report.perturbation_id, report.n_cells_reused)
    assert results(store, elsewhere) == results(here, report)
    again = perturbed(store, engine=engine, **options | {"doses": (0.05, 0.1)})
    assert again.n_cells_reused == sum(report.n_cells.values()) - 1


def test_a_study_of_one_more_dose_reads_that_dose_alone(studied, perturbed, reads):
    store = studied("bert")
    first = perturbed(store, is_top=True, doses=(0.05, 0.2))
    reads.clear()
    second = perturbed(store, is_top=True, doses=(0.05, 0.1, 0.2))
    assert len(reads) == 1 + 3 + 2 + 6
    assert second.n_cells_reused == sum(first.n_cells.values()) - 1
    assert second.perturbation_id != first.perturbation_id
    for table in ("perturbations", "perturbed_instances"):
        one, other = (rows(store, table, each.perturbation_id).drop("perturbation_id") for each in (first, second))
        assert set(one.rows()) < set(other.rows())
    assert store.check() == ()


def test_the_same_study_twice_changes_nothing(studied, perturbed, reads):
    store = studied("bert")
    options = {"is_top": True, "layers": (1,)}
    first = perturbed(store, doses=(0.1, 0.2), **options)
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()}
    reads.clear()
    again = perturbed(store, doses=(0.2, 0.1, 0.1), **options)
    assert (again.perturbation_id, again.is_new, reads) == (first.perturbation_id, False, [])
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()} == before
    assert again.describe().endswith("; already in the store, nothing done")
    assert rows(store, "perturbed_neurons")["layer"].unique().to_list() == [1]


def test_a_plan_says_what_will_be_done_and_writes_nothing(studied, headed, perturbed, reads):
    store = studied("bert")
    before = sorted(store.path.rglob("*"))
    settings = PerturbationSettings(is_top=True, doses=(0.1,), **QUICK)

    def planned():
        return study_perturbation(
            str(headed("bert")), store=store.path, settings=settings, name="tiny-bert", dry_run=True
        )

    plan = planned()
    assert len(reads) == 1
    assert sorted(store.path.rglob("*")) == before
    assert plan.n_cells == {"none": 1, "random": 2, "top": 3, "matched": 6}
    assert (plan.is_new, plan.n_cells_reused, plan.n_sources, plan.n_targets, plan.n_neurons) == (True, 0, 3, 3, 128)
    report = perturbed(store, is_top=True, doses=(0.1,))
    assert (report.perturbation_id, report.n_cells) == (plan.perturbation_id, plan.n_cells)
    assert (report.n_texts, report.n_instances) == (plan.n_texts, plan.n_instances)
    plan = planned()
    assert (plan.is_new, plan.n_cells_reused) == (False, 11)


def test_a_row_of_every_kind_is_stored(studied, perturbed):
    store = studied("bert")
    for kind, options in {
        "zero": {}, "mean": {}, "noise": {"scale": 3.0}, "shuffle": {}, "clamp": {"query": CLAMPED}
    }.items():  # fmt: skip
        chosen = {} if "query" in options else {"is_top": True, "doses": (0.2,), "functions": ("task/water",)}
        perturbed(store, kind=kind, **chosen, **options)
    found = rows(store, "perturbation_studies").select("kind", "scale", "n_sources").sort("kind").rows()
    assert found == [("clamp", 1.0, 2), ("mean", 1.0, 1), ("noise", 3.0, 1), ("shuffle", 4.0, 1), ("zero", 1.0, 1)]
    effects = rows(store, "perturbations").group_by("kind").agg(pl.col("effect").abs().max()).rows()
    assert len(effects) == 5
    assert min(effect for _, effect in effects) > 0
    # Of kinds that draw, seeds perturb the same neurons differently.
    own = rows(store, "perturbations").filter(selection="top", target_function="water")
    assert dict(own.group_by("kind").len().rows()) == {"zero": 1, "mean": 1, "noise": 2, "shuffle": 2}
    instances = rows(store, "perturbed_instances").select("cell_id", "target_function", "instance_id", "value")
    for kind in ("noise", "shuffle"):
        one, other = (instances.filter(cell_id=each).drop("cell_id") for each in own.filter(kind=kind)["cell_id"])
        assert set(one.rows()) != set(other.rows())
    assert store.check() == ()


@pytest.mark.parametrize(("kind", "n_layers"), [("olmoe", 2), ("switch", 1)])
def test_routing_away_takes_whole_experts_of_source_and_controls(studied, perturbed, monkeypatch, kind, n_layers):
    monkeypatch.setattr(sources, "FUNCTIONAL_P", 0.5)
    store = studied(kind)
    partition = partition_model(f"tiny-{kind}", store=store.path, settings=PartitionSettings("native")).partition_id
    report = perturbed(store, kind, kind="route-away", partition=partition, doses=(0.02, 0.3))
    assert report.n_sources > 0
    chosen = rows(store, "perturbed_neurons").with_columns(expert=pl.col("neuron") // 64)
    keys = ["source_family", "source_function", "layer", "expert"]
    assert chosen.group_by("selection", "seed", *keys).len()["len"].unique().to_list() == [64]
    assert {"functional", "matched", "random"} <= set(chosen["selection"])
    assert chosen["layer"].n_unique() <= n_layers
    sizes = rows(store, "perturbations").filter(pl.col("selection") != "none").select("dose", "n_neurons").unique()
    assert sorted(sizes.rows()) == [(0.02, 64), (0.3, 128 if kind == "olmoe" else 64)]
    own, matched = (chosen.filter(selection=each).select(keys).unique() for each in ("functional", "matched"))
    assert own.join(matched, on=keys).is_empty()
    assert store.check() == ()


@pytest.mark.parametrize("kind", ["olmoe", "switch"])
def test_routing_to_experts_alone_takes_as_many_as_a_token_is_sent_to(studied, perturbed, monkeypatch, kind):
    monkeypatch.setattr(sources, "FUNCTIONAL_P", 0.5)
    store = studied(kind)
    partition = partition_model(f"tiny-{kind}", store=store.path, settings=PartitionSettings("native")).partition_id
    options = {"kind": "route-only", "partition": partition, "layers": (1,)}
    if kind == "olmoe":  # two of four experts a token
        with pytest.raises(AnalysisError, match=r"^no source has, in each of its layers, the 2 experts"):
            perturbed(store, kind, **options, doses=(0.25,))
    perturbed(store, kind, **options, doses=(0.25, 0.5))
    found = rows(store, "perturbations").filter(pl.col("selection") != "none").select("kind", "n_neurons").unique()
    assert sorted(found.rows()) == [("route-only", 64 * n) for n in ((2,) if kind == "olmoe" else (1, 2))]
    assert store.check() == ()


def test_a_readout_is_above_chance_where_its_interval_over_texts_is():
    generator = np.random.default_rng(0)
    resampled = np.array([0.5, 0.55, 0.58, 0.9]) + 0.03 * generator.normal(size=(2000, 4))
    resampled[::7] = np.nan  # a resample without positives
    chance = np.full(4, 0.5)
    assert readable(resampled.astype(np.float32), chance).tolist() == [False, False, True, True]
    assert readable(resampled.astype(np.float32), None).tolist() == [True] * 4


def test_of_an_encoder_decoder_the_probe_perturbs_the_encoder_alone(studied, perturbed):
    store = studied("t5")
    perturbed(store, "t5", is_top=True, doses=(0.2,))
    assert set(rows(store, "neurons")["stack"]) == {"encoder", "decoder"}
    assert rows(store, "perturbation_studies")["n_layer_neurons"].item() == 128
    assert set(rows(store, "perturbed_neurons")["stack"]) == {"encoder"}
