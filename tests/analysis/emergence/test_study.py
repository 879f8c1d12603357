"""A study of a planted series: what is stored, what it agrees with, and that it is made once."""

import dataclasses
import json
import shutil
from unittest.mock import ANY

import numpy as np
import pytest
from elsewhere import Elsewhere

from neuronlake.analysis.emergence import rows as study_rows
from neuronlake.analysis.emergence import study as study_module
from neuronlake.errors import StoreError
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

STEPS = (0, 1, 2, 4, 8)
N_AWAY = (8, 4, 0, 0, 0)  # neurons of each planted cluster of 16 that are in another one at the step


@pytest.fixture
def asked(studied):
    """Return a function that asks SQL of the store with the study, of which $study is the id."""
    store, emergence_id = studied

    def ask(query):
        with Database(store) as database:
            return database.sql(query, {"study": emergence_id} if "$study" in query else None).rows()

    return ask


def test_the_study_is_described_by_one_row(asked, studied):
    ((*keys, parameters),) = asked(
        "select emergence_id, model, corpus, method, n_experts, n_seeds, n_random, seed, n_checkpoints, first_step, "
        "last_step, parameters from emergence_studies"
    )
    assert keys == [studied[1], "moving", "test", "kmeans", 4, 2, 2, 0, 5, 0, 8]
    assert json.loads(parameters) == {"layers": None, "features": "input", "n_starts": 4, "normalize": True}
    assert asked("select revision from runs join emergence_studies on run_id = last_run_id") == [("step8",)]


def test_each_checkpoint_has_cold_and_warm_partitions_and_the_last_random_and_matched_ones(asked):
    found = asked(
        "select role, made.seed, made.step, method, "
        "(made.step, made.revision) = (partitions.step, partitions.revision) "
        "from emergence_partitions as made inner join partitions using (partition_id) order by all"
    )
    remade = (("cold", 0), ("cold", 1), ("warm", 0))
    expected = [(role, seed, step, "kmeans", True) for role, seed in remade for step in STEPS]
    groups = [(role, seed, 8, role, True) for role in ("random", "matched") for seed in (0, 1)]
    assert found == sorted([*expected, *groups])


def test_the_warm_chain_begins_with_the_cold_partition_of_the_first_seed_and_goes_on_from_the_one_before(asked):
    cold, *chain = asked(
        "select partition_id, parameters from emergence_partitions as made inner join partitions using (partition_id) "
        "where role = 'warm' or (role = 'cold' and made.seed = 0 and made.step = 0) order by role, made.step"
    )
    assert chain[0] == cold
    assert [json.loads(text)["warm_start"] for _, text in chain[1:]] == [each for each, _ in chain[:-1]]


@pytest.mark.parametrize("role", ["cold", "warm"])
def test_experts_are_those_of_the_last_checkpoint_from_the_step_on_at_which_neurons_stay(asked, role):
    found = asked(
        f"select reference, step, min(adjusted_rand_index), max(adjusted_rand_index) from partition_changes "
        f"where role = '{role}' and reference != 'seed' group by all order by all"
    )
    ((_, _, away, _),) = [row for row in found if row[:2] == ("last", 0)]
    ((_, _, near, _),) = [row for row in found if row[:2] == ("last", 1)]
    assert away < near < 0.7
    settled = [("last", 2), ("last", 4), ("previous", 4), ("previous", 8)]
    assert {row[:2] for row in found if row[2] == row[3] == 1} == {*settled}
    assert {row[:2] for row in found} == {*settled, *(("last", step) for step in (0, 1)), *(
        ("previous", step) for step in (1, 2)
    )}  # fmt: skip


def test_seeds_that_find_the_same_experts_agree(asked):
    found = asked(
        "select role, seed, step, reference_step, min(adjusted_rand_index), max(variation_of_information), count(*) "
        "from partition_changes where reference = 'seed' group by all order by all"
    )
    assert found == [("cold", seed, step, step, 1, 0, 2) for seed in (0, 1) for step in STEPS]


def test_changes_are_what_the_view_of_agreement_says(asked):
    found = asked(
        """
        with changes as (
            select changes.*, own.partition_id as own, other.partition_id as other
            from partition_changes as changes
            inner join emergence_partitions as own using (emergence_id, role, seed, revision)
            inner join emergence_partitions as other
                on other.role = changes.role and other.step = changes.reference_step
                and if(changes.role = 'cold', other.seed != changes.seed, other.seed = changes.seed)
        )

        select
            changes.adjusted_rand_index, agreement.adjusted_rand_index,
            changes.normalized_mutual_information, agreement.normalized_mutual_information,
            changes.variation_of_information, agreement.variation_of_information,
        from changes
        inner join partition_agreement as agreement
            on partition_id_a = least(own, other) and partition_id_b = greatest(own, other)
            and agreement.stack = changes.stack and agreement.layer = changes.layer
        """
    )
    values = np.array(found)
    # Four references before the last, four after the first, of three chains; a reference each of both seeds; by layer.
    assert len(values) == (3 * 8 + 2 * 5) * 2
    np.testing.assert_allclose(values[:, ::2], values[:, 1::2], atol=1e-12)


def test_warm_experts_keep_their_labels(asked):
    found = asked(
        """
        with warm as (
            select made.step, stack, layer, neuron, expert
            from emergence_partitions as made
            inner join experts using (partition_id)
            where role = 'warm'
        )

        select warm.step, layer, count(*)
        from warm
        inner join (from warm where step = 8) as last using (stack, layer, neuron, expert)
        group by all
        order by all
        """
    )
    assert found == [(step, layer, 64 - 4 * n) for step, n in zip(STEPS, N_AWAY, strict=True) for layer in (0, 1)]


def test_experts_that_are_made_anew_are_not_followed(asked):
    assert asked("select (select count(*) from expert_tracks), (select count(*) from expert_births)") == [(0, 0)]


def test_the_same_again_loads_and_writes_nothing(studied, checkpoints, study, monkeypatch):
    store, emergence_id = studied
    files = {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()}
    monkeypatch.setattr(study_module, "make_lineages", None)
    report = study(store, n_seeds=2, n_random=2, n_starts=4)
    assert (report.emergence_id, report.is_new, report.n_experts) == (emergence_id, False, 4)
    assert report.describe().splitlines()[0].endswith("; already in the store, nothing done")
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()} == files


@pytest.mark.slow
def test_a_killed_study_goes_on_with_the_partitions_it_made(series_store, study, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(study_rows, "write_study", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            study(series_store)
    assert not series_store.files("emergence_studies")
    assert not list((series_store.path / ".staging").glob("*/"))
    report = study(series_store)
    assert (report.is_new, report.n_partitions, report.n_partitions_reused) == (True, 16, 16)
    assert " 16 partitions (16 known), " in report.describe()
    again = study(series_store)
    assert again == dataclasses.replace(report, is_new=False, duration_s=ANY)


def test_the_views_read_what_the_study_stored_of_neurons_and_the_last_checkpoint(asked):
    made = asked(
        "select distinct partition_id from emergence_partitions inner join emergence_studies using (emergence_id) "
        "where run_id = last_run_id and role != 'warm' union all select '*'"
    )
    stored = asked("select distinct partition_id from stabilities order by all")
    assert stored == sorted(made)
    assert not set(stored) & set(asked("select distinct partition_id from unstored_stability"))


@pytest.mark.slow
def test_partitions_that_workers_make_are_those_made_here(series_store, study, measured_series, tmp_path):
    engine, here = Elsewhere(), Store(shutil.copytree(measured_series, tmp_path / "here"))
    reports = study(series_store, engine=engine), study(here)
    assert engine.done == [f"step{step}" for step in reversed(STEPS)]
    assert reports[0].emergence_id == reports[1].emergence_id
    assert reports[0].n_partitions_reused == reports[1].n_partitions_reused == 0
    made = [{commit.job for commit in store.commits()} for store in (series_store, here)]
    assert made[0] == made[1]
    assert series_store.check() == ()


def test_two_cannot_make_one_study_at_once(series_store, study, monkeypatch):
    original = study_rows.write_study
    monkeypatch.setattr(study_rows, "write_study", lambda *arguments: (study(series_store), original(*arguments)))
    with pytest.raises(StoreError):
        study(series_store)


def test_progress_counts_partitions(series_store, study, recorded_progress):
    study(series_store, n_random=2, progress=recorded_progress)
    made = [("partitioning checkpoints", 18, "partitions"), *[1] * 18]
    assert recorded_progress.seen == [*made, ("comparing checkpoints", 5, "batches"), *[1] * 5]


def test_experts_by_function_need_no_model_and_all_that_is_circular_is_said(series_store, study):
    report = study(series_store, "moving", method="function", layers=(1,))
    assert (report.method, report.n_partitions) == ("function", 16)
    (note,) = (each for each in report.notices if each.startswith("circular: "))
    assert "functional experts and settled steps" in note
    with Database(series_store) as database:
        query = (
            "select distinct method, layer from emergence_partitions inner join partition_layers using (partition_id) "
            "inner join partitions using (partition_id) order by all"
        )
        assert database.sql(query).rows() == [("function", 1), ("matched", 1), ("random", 1)]
