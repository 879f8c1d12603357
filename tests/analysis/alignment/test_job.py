"""The job that tests partitions against functions: on measured models, again, on some runs, and refused."""

import re

import numpy as np
import polars as pl
import pytest

from neuronlake.analysis.alignment.job import align_partition
from neuronlake.analysis.partitions.job import partition_model
from neuronlake.analysis.partitions.settings import PartitionSettings
from neuronlake.analysis.published import import_scores
from neuronlake.errors import AnalysisError, UnknownNameError
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Controls, Settings
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store
from neuronlake.schema.tables import table

N_NEURONS = 400


@pytest.fixture
def partition(tiny_model):
    """Return a function that divides the neurons of a stored tiny model into four experts at random."""

    def run(store, kind="bert", **settings):
        chosen = PartitionSettings("random", n_experts=4, **settings)
        return partition_model(f"tiny-{kind}", store=store.path, settings=chosen).partition_id

    return run


def test_the_tests_of_a_measured_model_agree_with_the_views(stored, partition, alignments):
    store = stored("bert")
    (report,) = align_partition(partition(store), store=store.path, n_permutations=99)
    assert report.null_models == ("free", "matched")
    query = """
        select count(*), count(tests.n_top), count(*) filter (where tests.n_top = views.n_top),
        from alignment_tests as tests
        full join expert_function_alignment as views
            using (run_id, partition_id, stack, layer, expert, family, function)
        where level = 'function' and half = 'all' and null_model = 'matched' or level is null
    """
    assert Database(store).sql(query).rows() == [(24, 24, 24)]
    rows = alignments(store)
    assert rows["model"].unique().to_list() == ["tiny-bert"]
    assert rows["seed"].unique().to_list() == [0]
    assert rows.filter(pl.col("function") != "*")["n_permutations"].is_null().all()
    assert set(rows.filter(function="*")["n_permutations"].to_list()) <= {None, 99}


def test_a_measured_model_is_tested_against_its_control_functions(stored, partition, tiny_model, alignments):
    store = stored("bert")
    controls = Controls(("instance",), n_draws=2)
    ingest_model(str(tiny_model("bert")), corpus="test", store=store.path, controls=controls)
    (report,) = align_partition(partition(store), store=store.path, n_permutations=99)
    assert report.null_models == ("free", "matched", "control-instance")
    against = alignments(store, null_model="control-instance")
    assert against.select("layer", "half").n_unique() == 2 * 3
    free = alignments(store, null_model="free").join(against, on=table("alignments").grain[2:])
    assert free.height == against.height
    assert free["n_top"].equals(free["n_top_right"])
    assert set(against.filter(function="*")["n_permutations"]) == {2}


def test_the_same_again_changes_nothing_and_says_so(stored, partition):
    store = stored("bert")
    partition_id = partition(store)
    (first,) = align_partition(partition_id, store=store.path, n_permutations=99)
    files = {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()}
    (again,) = align_partition(partition_id, store=store.path, n_permutations=99)
    assert (again.alignment_id, again.is_new) == (first.alignment_id, False)
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()} == files
    assert again.describe().endswith("; already in the store, nothing done")


@pytest.mark.parametrize("other", [{"seed": 1}, {"n_bins": 2}, {"n_permutations": 98}], ids=str)
def test_another_seed_or_number_is_another_alignment_beside_the_first(stored, partition, other, alignments):
    store = stored("bert")
    partition_id = partition(store)
    settings = {"n_permutations": 99, "seed": 0, "n_bins": 5}
    reports = [align_partition(partition_id, store=store.path, **each)[0] for each in (settings, settings | other)]
    assert [report.is_new for report in reports] == [True, True]
    stored_ids = set(alignments(store)["alignment_id"])
    assert stored_ids == {report.alignment_id for report in reports}
    grain = ", ".join(table("alignments").grain)
    query = f"select count(*) = count(distinct ({grain})), count(distinct alignment_id) from alignment_tests"
    assert Database(store).sql(query).rows() == [(True, 2)]


def test_one_bin_matches_nothing(stored, partition, alignments):
    store = stored("bert")
    align_partition(partition(store), store=store.path, n_permutations=200, n_bins=1)
    free, matched = (alignments(store, null_model=each).drop("null_model") for each in ("free", "matched"))
    assert free.equals(matched)


def test_a_layer_is_tested_alike_alone_and_whatever_the_number_of_threads(stored, partition, monkeypatch, alignments):
    store = stored("bert")
    rows = []
    for n_threads, layers in ((4, None), (1, (1,))):
        monkeypatch.setattr("os.cpu_count", lambda n=n_threads: n)
        (report,) = align_partition(partition(store, layers=layers), store=store.path, n_permutations=200)
        found = alignments(store, alignment_id=report.alignment_id)
        assert found["layer"].n_unique() == (2 if layers is None else 1)
        rows.append(found.filter(layer=1).drop("alignment_id", "partition_id"))
    assert rows[0].equals(rows[1])


def test_all_runs_of_the_partitions_revision_are_tested_unless_one_is_named(stored, partition, tiny_model):
    store = stored("bert")
    run_id = Database(store).sql("select run_id from runs").rows()[0][0]
    partition_id = partition(store)
    ingest_model(str(tiny_model("bert")), corpus="test", store=store.path, settings=Settings(pooling="mean"))
    ingest_model(str(tiny_model("bert")), corpus="test", store=store.path, random_init=3)
    (named,) = align_partition(partition_id, store=store.path, run=run_id[:6], n_permutations=9)
    assert named.run_id == run_id
    reports = align_partition(partition_id, store=store.path, n_permutations=9)
    runs = Database(store).sql("select run_id from runs where revision = 'main' order by 1").rows()
    assert [(report.run_id,) for report in reports] == runs
    assert [report.is_new for report in reports] == [report.run_id != run_id for report in reports]
    other = Database(store).sql("select run_id from runs where revision = 'random-3'").rows()[0][0]
    assert align_partition(partition_id, store=store.path, run=other, n_permutations=9)[0].run_id == other


def test_runs_that_measured_none_of_its_layers_are_passed_over(stored, partition, tiny_model):
    store = stored("bert")
    (run_id,) = Database(store).sql("select run_id from runs").rows()[0]
    partition_id = partition(store, layers=(1,))
    ingest_model(str(tiny_model("bert")), corpus="test", store=store.path, settings=Settings(layers=(0,)))
    reports = align_partition(partition_id, store=store.path, n_permutations=9)
    assert [report.run_id for report in reports] == [run_id]
    other = Database(store).sql("select run_id from runs where run_id <> ?", [run_id]).rows()[0][0]
    with pytest.raises(AnalysisError, match=f"run {other} has no scored layer that partition {partition_id} covers"):
        align_partition(partition_id, store=store.path, run=other, n_permutations=9)


def test_an_imported_run_has_the_free_null_alone_and_says_so(tmp_path, alignments):
    neurons = np.arange(N_NEURONS)
    rows = {"layer": 0 * neurons, "neuron": neurons, "score": np.cos(neurons), "expert": neurons % 4}
    pl.DataFrame(rows).write_parquet(tmp_path / "scores.parquet")
    store = Store(tmp_path / "store")
    imported = import_scores(
        tmp_path / "scores.parquet", store=store.path, model="theirs", stack="encoder", family="task", function="f",
        score="score", partition="expert",
    )  # fmt: skip
    (report,) = align_partition(imported.partition_id, store=store.path, n_permutations=99)
    assert report.null_models == ("free",)
    assert "free null" in report.describe()
    assert report.describe().endswith("; the run has no norms and firing rates, so none is matched")
    rows = alignments(store)
    assert rows.select("null_model", "half").unique().rows() == [("free", "all")]
    # A family of one function is tested as its function is.
    family, function = (rows.filter(function=each)["n_top", "n_expected", "p_value"] for each in ("*", "f"))
    assert family.equals(function)


def test_unknown_partitions_and_runs_are_refused_with_those_there_are(stored, partition):
    store = stored("bert")
    partition_id = partition(store)
    with pytest.raises(UnknownNameError, match=rf"no partition 'zz'.*{partition_id} \(tiny-bert, main, random, 4\)"):
        align_partition("zz", store=store.path)
    run_id = Database(store).sql("select run_id from runs").rows()[0][0]
    with pytest.raises(
        UnknownNameError, match=rf"no run 'zz'.*{run_id} \(tiny-bert, main, test, activation, max, max_tokens \d+\)"
    ):
        align_partition(partition_id, store=store.path, run="zz")
    assert store.files("alignments") == ()


def test_a_run_of_another_model_is_refused(stored, partition, tiny_model):
    store = stored("bert")
    partition_id = partition(store)
    other = ingest_model(str(tiny_model("gpt2")), corpus="test", store=store.path)
    message = re.escape(f"run {other.run_id} is of tiny-gpt2 main, not of tiny-bert")
    with pytest.raises(AnalysisError, match=message):
        align_partition(partition_id, store=store.path, run=other.run_id)


def test_a_partition_of_a_revision_without_runs_is_refused(stored, tiny_model):
    store = stored("bert")
    report = partition_model(
        str(tiny_model("bert")), store=store.path, settings=PartitionSettings("kmeans", n_experts=4), random_init=5
    )
    message = f"no run of tiny-bert random-5 that measured a layer of partition {report.partition_id}"
    with pytest.raises(AnalysisError, match=message):
        align_partition(report.partition_id, store=store.path)


@pytest.mark.parametrize("wrong", [{"n_permutations": 0}, {"n_bins": 0}, {"seed": -1}], ids=str)
def test_numbers_out_of_range_are_refused(stored, partition, wrong):
    store = stored("bert")
    with pytest.raises(AnalysisError, match="must be at least"):
        align_partition(partition(store), store=store.path, **wrong)
