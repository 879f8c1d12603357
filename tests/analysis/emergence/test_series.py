"""Which runs are the series of a model, and what is refused."""

import dataclasses
import shutil

import pytest

from neuronlake.analysis.emergence.series import find_series
from neuronlake.errors import AnalysisError, UnknownNameError
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Settings
from neuronlake.queries.database import Database


@pytest.fixture
def series_of(series_store):
    """Return a function that finds the series of a model in the test's own store."""

    def find(model="moving", **chosen):
        with Database(series_store) as database:
            return find_series(database, model, **chosen)

    return find


@pytest.fixture
def ingest(series_store, checkpoints):
    """Return a function that measures a checkpoint in the test's own store."""

    def run(step, **settings):
        return ingest_model(
            str(checkpoints), revision=f"step{step}", corpus="test", store=series_store.path,
            settings=Settings(**settings),
        )  # fmt: skip

    return run


def test_checkpoints_are_in_the_order_of_their_steps(series_of):
    series = series_of()
    assert [(each.revision, each.step) for each in series.checkpoints] == [
        (f"step{step}", step) for step in (0, 1, 2, 4, 8)
    ]
    assert (series.model, series.corpus, series.last.step) == ("moving", "test", 8)
    assert series.twins() == ()


def test_of_several_revisions_of_a_step_the_first_by_name_is_in_the_series(
    series_of, series_store, checkpoints, tmp_path
):
    for name in ("checkpoint-4", "xstep-4", "main"):  # main tells no step
        shutil.copytree(checkpoints / "step4", tmp_path / "moving" / name)
        ingest_model(str(tmp_path / "moving"), revision=name, corpus="test", store=series_store.path)
    assert [each.revision for each in series_of().checkpoints] == ["step0", "step1", "step2", "checkpoint-4", "step8"]


def test_a_step_of_two_stages_of_training_is_refused(series_of, series_store, checkpoints, tmp_path):
    shutil.copytree(checkpoints / "step8", tmp_path / "moving" / "stage2-step4")
    ingest_model(str(tmp_path / "moving"), revision="stage2-step4", corpus="test", store=series_store.path)
    with pytest.raises(AnalysisError, match=r"step 4 of moving is of several revisions, stage2-step4 and step4, with "):
        series_of()


def test_checkpoints_with_one_and_the_same_weights_are_twins(series_of):
    series = series_of()
    first, *others = series.checkpoints
    twin = dataclasses.replace(others[1], weights_sha256=first.weights_sha256)
    found = dataclasses.replace(series, checkpoints=(first, others[0], twin)).twins()
    assert found == ((first, twin),)


@pytest.mark.parametrize(
    ("settings", "shown"), [({"pooling": "mean"}, "mean"), ({"min_instances": 1}, "max, min_instances 1")]
)
def test_several_series_are_listed_and_one_is_chosen_by_any_run_of_it(series_of, ingest, settings, shown):
    runs = [ingest(step, **settings).run_id for step in (0, 4, 8)]
    with pytest.raises(
        UnknownNameError,
        match=r"no single series of 'moving' in .*; available: (?=.*\(test, activation, max, .*: 5 checkpoints)"
        rf"(?=.*{runs[-1]} \(test, activation, {shown}, .*: 3 checkpoints)",
    ):
        series_of()
    assert [each.step for each in series_of(run=runs[0][:9]).checkpoints] == [0, 4, 8]
    assert len(series_of(run=series_of(run=runs[0]).last.run_id).checkpoints) == 3
    with pytest.raises(UnknownNameError, match=r"no single series of a run '' in "):
        series_of(run="")


def test_two_checkpoints_are_too_few(series_of, ingest):
    run, _ = (ingest(step, pooling="mean").run_id for step in (0, 4))
    with pytest.raises(
        AnalysisError,
        match=r"the series of moving on test has 2 checkpoints with a known step \(step0, step4\); a study needs 3",
    ):
        series_of(run=run)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"model": "tiny-bert"}, r"no series of checkpoints of the model 'tiny-bert' in .*; available: moving"),
        ({"corpus": "tests"}, r"no corpus 'tests' in the series of moving in .*; did you mean 'test'\?"),
        ({"run": "x"}, r"no run of a series 'x' in .*; available: [0-9a-f]{16} \(test, activation, max"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(series_of, chosen, message):
    with pytest.raises(UnknownNameError, match=message) as error:
        series_of(**chosen)
    assert "\n" not in str(error.value)


def test_a_model_at_random_initialisation_alone_is_not_offered_as_a_series(series_of, series_store, checkpoints):
    ingest_model(str(checkpoints / "step0"), random_init=0, name="drawn", corpus="test", store=series_store.path)
    with pytest.raises(
        UnknownNameError, match=r"no series of checkpoints of the model 'drawn' in .*; available: moving$"
    ):
        series_of(model="drawn")


def test_a_corpus_is_one_series(series_of):
    assert len(series_of(corpus="test").checkpoints) == 5
