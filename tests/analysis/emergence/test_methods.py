"""Studies of native experts and of coactivations, and studies that cannot be made."""

import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from neuronlake.analysis.emergence.settings import EmergenceSettings
from neuronlake.analysis.emergence.summary import summarise
from neuronlake.errors import AnalysisError, NeuronlakeError, UnknownNameError
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Coactivation
from neuronlake.queries.database import Database


@pytest.fixture(scope="module")
def native_store(tiny_model, measured, tmp_path_factory):
    """Return a store with three checkpoints of tiny Switch, the last with the weights of the first; read only."""
    folder = tmp_path_factory.mktemp("native")
    store = shutil.copytree(measured("bert"), folder / "store")
    for step, factor in ((0, 1.0), (10, 1.5), (20, 1.0)):
        checkpoint = shutil.copytree(tiny_model("switch"), folder / "growing" / f"step{step}")
        weights = load_file(checkpoint / "model.safetensors")
        save_file(
            {name: factor * each for name, each in weights.items()}, checkpoint / "model.safetensors", {"format": "pt"}
        )
        ingest_model(str(folder / "growing"), revision=f"step{step}", corpus="test", store=store)
    return store


@pytest.fixture
def native(native_store, tmp_path, study):
    """Return a function that studies tiny Switch's own experts, and a database over the study."""

    def run(**settings):
        from neuronlake.schema.store import Store

        store = Store(shutil.copytree(native_store, tmp_path / "native-store"))
        report = study(
            store, "growing", **{"method": "native", "n_experts": None, "n_seeds": 2, "n_starts": 4, **settings}
        )
        return report, Database(store)

    return run


def test_native_experts_are_one_partition_that_is_followed_through_all_checkpoints(native):
    report, database = native(n_random=2)
    assert (report.method, report.n_experts, report.n_partitions) == ("native", 4, 5)
    found = database.sql("select role, seed, step from emergence_partitions order by all").rows()
    assert found == [("matched", 0, 20), ("matched", 1, 20), ("native", 0, 20), ("random", 0, 20), ("random", 1, 20)]
    query = (
        "select role, step, layer, count(distinct partition_id), bool_and(expert = track), min(n_shared_last), "
        "min(n_shared_next), count(*) from expert_tracks where seed = 0 group by all order by all"
    )
    # Of its two layers one has experts: four of 64 neurons. Groups are of that layer too.
    assert database.sql(query).rows() == [
        (role, step, 1, 1, True, 64, None if step == 20 else 64, 4)
        for role in ("matched", "native", "random")
        for step in (0, 10, 20)
    ]
    assert database.sql("select count(*) from partition_changes").rows() == [(0,)]


def test_births_are_those_of_the_tests_of_each_checkpoint(native):
    _, database = native(n_random=2)
    found = database.sql(
        "select role, seed, step, stack, layer, expert, family, function, n_neurons, n_top, p_value "
        "from track_alignment order by all"
    ).rows()
    expected = database.sql(
        "select role, seed, tracks.step, stack, layer, expert, family, function, tests.n_neurons, n_top, p_value "
        "from expert_function_alignment as tests "
        "inner join expert_tracks as tracks using (run_id, partition_id, stack, layer, expert) "
        "where n_top > 0 order by all"
    ).rows()
    assert len(found) > 50
    assert [row[:-1] for row in found] == [row[:-1] for row in expected]
    np.testing.assert_allclose([row[-1] for row in found], [row[-1] for row in expected])


def test_a_study_of_native_experts_shows_births_in_place_of_agreement(native):
    report, database = native(n_random=2)
    by_step, settled, births = summarise(database, report, thresholds=(0.5,))
    assert [row["step"] for row in by_step.rows(database)] == [0, 10, 20]
    assert [each.sentence.partition(":")[0] for each in (settled, births)] == ["Settled", "Births"]
    found = [(row["role"], row["n_partitions"], row["n_experts"]) for row in births.rows(database)]
    assert found == [("native", 1, 4), ("random", 2, 4), ("matched", 2, 4)]


def test_checkpoints_with_the_same_weights_are_told_and_that_settled_steps_leave_them_out(native):
    report, database = native()
    note = (
        "note: step0 (step 0), step20 (step 20) have one and the same weights: which is mislabelled is not known, "
        "settled steps exclude all"
    )
    assert note in report.describe().splitlines()
    # Of three checkpoints each is held against one of the two.
    assert database.sql("select count(*) from stabilization_steps").rows() == [(0,)]


@pytest.mark.slow
def test_coactivations_have_no_warm_chain_and_that_is_said(series_store, checkpoints, study):
    for step in (0, 1, 2, 4, 8):
        ingest_model(
            str(checkpoints), revision=f"step{step}", corpus="test", store=series_store.path,
            coactivation=Coactivation(),
        )  # fmt: skip
    report = study(series_store, "moving", method="coactivation")
    assert "note: no warm chain: METIS" in report.describe()
    with Database(series_store) as database:
        roles = database.sql("select role, count(*) from emergence_partitions group by all order by all").rows()
    assert roles == [("cold", 10), ("matched", 1), ("random", 1)]


def test_without_coactivations_the_study_says_how_to_make_them(series_store, study):
    with pytest.raises(AnalysisError, match="--coactivation' makes them"):
        study(series_store, "moving", method="coactivation")


def test_a_step_that_is_missing_is_told(series_store, study, checkpoints, tmp_path):
    folder = tmp_path / "spaced"
    for step in (10, 20, 40, 50):
        shutil.copytree(checkpoints / "step4", folder / f"step{step}")
        ingest_model(str(folder), revision=f"step{step}", corpus="test", store=series_store.path)
    report = study(series_store, "spaced", method="function", layers=(0,))
    assert "note: no checkpoint at step 30, where the others are evenly spaced" in report.describe().splitlines()


def test_a_checkpoint_that_has_changed_is_refused(series_store, study, checkpoints, tmp_path):
    moving = shutil.copytree(checkpoints, tmp_path / "moving")
    shutil.copytree(checkpoints / "step8", moving / "step2", dirs_exist_ok=True)
    message = r"checkpoint step2 \(step 2\) of moving has changed: its weights have the digest [0-9a-f]{12}, run "
    with pytest.raises(AnalysisError, match=message):
        study(series_store, moving)
    assert not series_store.files("emergence_studies")


def test_a_checkpoint_that_cannot_be_loaded_stops_the_study_by_its_name(series_store, study, checkpoints, tmp_path):
    moving = shutil.copytree(checkpoints, tmp_path / "moving")
    shutil.rmtree(moving / "step4")
    with pytest.raises(
        AnalysisError, match=r"checkpoint step4 \(step 4\) of moving cannot be loaded: no revision 'step4'"
    ):
        study(series_store, moving)
    assert not series_store.files("emergence_studies")


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({}, AnalysisError, "method kmeans needs n_experts: how many experts a layer has"),
        ({"method": "random"}, UnknownNameError, "no method 'random'; available: coactivation, function, kmeans, nati"),
        ({"n_experts": 4, "n_seeds": 1}, AnalysisError, "n_seeds is 1; it must be at least 2"),
        ({"n_experts": 4, "n_random": -1}, AnalysisError, "n_random is -1; it must be at least 0"),
        ({"n_experts": 4, "seed": -1}, AnalysisError, "seed is -1; it must be at least 0"),
        (
            {"n_experts": 4, "features": "key"},
            UnknownNameError,
            "no features 'key'; available: gate, input, output, up",
        ),
        ({"n_experts": 4, "method": "native"}, AnalysisError, "`n_experts` means nothing to method native; it is for "),
        ({"n_seeds": 3, "method": "native"}, AnalysisError, "n_seeds means nothing to native experts, which are the "),
        (
            {"n_experts": 4, "features": "up", "method": "function"},
            AnalysisError,
            "`features` means nothing to method function; it is for kmeans",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused_in_one_line(settings, kind, message):
    with pytest.raises(kind) as error:
        EmergenceSettings(**settings)
    assert isinstance(error.value, NeuronlakeError)
    assert str(error.value).startswith(message)


def test_order_and_repetition_of_layers_mean_nothing():
    assert EmergenceSettings(n_experts=4, layers=(1, 0, 1)) == EmergenceSettings(n_experts=4, layers=(0, 1))
