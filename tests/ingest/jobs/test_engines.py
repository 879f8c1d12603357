"""Series whose checkpoints are measured elsewhere: what an engine is given and what is made of its results."""

import shutil

import pyarrow.parquet as pq
import pytest
from elsewhere import Elsewhere

from neuronlake.engines.engine import SerialEngine
from neuronlake.errors import EngineError, IngestError
from neuronlake.ingest.jobs.additions import highlights
from neuronlake.ingest.jobs.job import ingest_series
from neuronlake.ingest.jobs.reports import Failure
from neuronlake.ingest.jobs.settings import Settings
from neuronlake.schema.job import Job
from neuronlake.schema.store import Store


@pytest.fixture
def second(filled, make_corpus, whole_texts):
    """Add a second corpus, called other, to the store."""
    make_corpus(filled, whole_texts, name="other")
    return filled


def test_what_workers_stage_is_committed_and_reported_in_the_order_asked_for(ingest_all, second, contents, tmp_path):
    told = []
    report = ingest_all(corpus=["test", "other"], engine=Elsewhere(), tell=told.append)
    assert [each.revision for each in report.outcomes] == ["step0", "step0", "step10", "step10", "step2000", "step2000"]
    assert told == list(reversed(report.outcomes))
    assert len({each.run_id for each in report.outcomes}) == 6
    assert all(second.commit(each.run_id) for each in report.outcomes)
    assert list(second.staging.glob("*/")) == []
    again = ingest_all(corpus=["test", "other"], engine=SerialEngine())
    assert [each.run_id for each in again.outcomes] == [each.run_id for each in report.outcomes]
    assert not any(each.is_new for each in again.outcomes)


def test_a_lost_worker_and_a_damaged_checkpoint_fail_alone(ingest_all, second, series):
    (series / "step0" / "config.json").unlink()
    report = ingest_all(corpus=["test", "other"], engine=Elsewhere(dies_at="step10 on other"))
    assert [(each.revision, each.reason.partition(": ")[0]) for each in report.failures] == [
        ("step0", "on corpus test"), ("step0", "on corpus other"), ("step10", "on corpus other"),
    ]  # fmt: skip
    assert report.failures[2].reason == "on corpus other: its worker died 4 times"
    assert sum(not isinstance(each, Failure) for each in report.outcomes) == 3


def test_what_no_checkpoint_can_do_stops_the_job(ingest_all, filled):
    with pytest.raises(IngestError, match=r"no layer \[7\]; the model has feed-forward layers 0 to 1"):
        ingest_all(settings=Settings(layers=(7,)), engine=Elsewhere())


def test_shards_measure_each_checkpoint_once_and_the_first_lists_them(ingest_all, second, read_rows):
    reports = [ingest_all(corpus=["test", "other"], shard=f"{number}/4") for number in (2, 3, 4)]
    assert read_rows(second, "checkpoints") == []
    reports.append(ingest_all(corpus=["test", "other"], shard="1/4"))
    assert [len(report.outcomes) for report in reports] == [2, 1, 1, 2]
    runs = [each.run_id for report in reports for each in report.outcomes]
    assert len(set(runs)) == len(runs) == 6
    assert {row["revision"] for row in read_rows(second, "checkpoints")} == {"step0", "step10", "step2000"}
    with pytest.raises(EngineError, match="'5/4' is no shard"):
        ingest_all(shard="5/4")


def test_a_run_that_another_process_commits_meanwhile_is_reported_as_there(ingest_all, ingest, filled, monkeypatch):
    from neuronlake.ingest.jobs import run

    open_jobs, is_first = run.open_jobs, [True]

    def beaten(*arguments):
        if is_first.pop() if is_first else False:
            ingest_all(revisions="step0")
        return open_jobs(*arguments)

    monkeypatch.setattr(run, "open_jobs", beaten)
    (outcome,) = ingest_all(revisions="step0").outcomes
    assert (outcome.is_new, outcome.duration_s > 0) == (False, True)
    assert filled.check() == ()


def additions_of(store):
    """Return the jobs of a store, and the rows of its additions."""
    tables = [
        pq.read_table(path, partitioning=None)
        for name in ("top_tokens", "neuron_vocabulary")
        for path in store.files(name)
    ]
    rows = sorted(str(row) for each in tables for row in each.to_pylist())
    return {(commit.job, commit.kind) for commit in store.commits()}, rows


@pytest.mark.slow
def test_additions_of_workers_are_those_of_the_serial_engine_even_after_a_kill(series, filled, tmp_path, monkeypatch):
    serial = Store(shutil.copytree(filled.path, tmp_path / "serial"))
    asked = {"corpus": "test", "revisions": "step*", "additions": ("vocabulary", "highlights")}
    assert not ingest_series(str(series), store=serial.path, **asked).failures
    write, names = Job.write, ["top_tokens"]

    def killed(job, name, data, **place):
        if name in names:
            names.remove(name)
            raise KeyboardInterrupt
        write(job, name, data, **place)

    monkeypatch.setattr(Job, "write", killed)
    with pytest.raises(KeyboardInterrupt):  # by then the run is staged, and not committed
        ingest_series(str(series), store=filled.path, engine=Elsewhere(), **asked)
    report = ingest_series(str(series), store=filled.path, engine=Elsewhere(), **asked)
    assert [each.additions for each in report.outcomes] == [("highlights", "vocabulary")] * 3
    assert additions_of(filled) == additions_of(serial)
    assert (filled.check(), list(filled.staging.glob("*/"))) == ((), [])


@pytest.mark.parametrize("engine", [SerialEngine, Elsewhere])
def test_a_run_whose_addition_fails_is_committed(ingest_all, filled, monkeypatch, engine):
    def refused(*_):
        raise IngestError("nothing to highlight")

    monkeypatch.setattr(highlights, "_listed", refused)
    report = ingest_all(revisions="step0", additions=("highlights",), engine=engine())
    assert [each.reason for each in report.failures] == ["nothing to highlight"]
    assert [commit.kind for commit in filled.commits() if commit.kind in ("run", "highlights")] == ["run"]
    assert list(filled.staging.glob("*/")) == []
