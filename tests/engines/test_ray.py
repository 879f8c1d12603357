"""Ray as an engine: two workers do a series, one is killed, the driver is killed, an input is wrong."""

import functools
import importlib.util
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import WORDS
from safetensors.torch import load_file, save_file

from neuronlake import Database, Instance, Source, materialize
from neuronlake.engines.engine import Work
from neuronlake.engines.ray import RayEngine
from neuronlake.errors import EngineError, UnknownNameError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.jobs.job import ingest_series
from neuronlake.progress import SilentProgress
from neuronlake.schema.store import Store

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray is not installed"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def engine():
    """Return the engine, connected for the whole module."""
    with RayEngine(workers=2)._connected() as ray:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it
        yield RayEngine(workers=2)


@pytest.fixture
def notes():
    return []


@pytest.fixture
def show(notes):
    """Return what opens a progress that keeps the notes."""

    class Notes(SilentProgress):
        def note(self, text):
            notes.append(text)

    @contextmanager
    def open_notes():
        yield Notes()

    return open_notes


def square(task, progress, folder):
    """Square a number once two workers are at it."""
    progress.note("squares are made")
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.1)
    return task**2


def refuse(task, progress):
    if task == 2:
        raise UnknownNameError("number", "2", ["1", "3"])
    return task


def die_at_first(task, progress):
    """Kill the worker at the first attempt; `task` is a file that the attempt leaves."""
    if not Path(task).exists():
        Path(task).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die(task, progress):
    os.kill(os.getpid(), signal.SIGKILL)


def test_two_workers_share_the_tasks_and_are_told(engine, notes, show, tmp_path):
    work = Work(tasks=range(6), do=functools.partial(square, folder=tmp_path), unit="numbers", label="number {}".format)
    assert dict(engine.run(work, show)) == {place: place**2 for place in range(6)}
    workers = {re.fullmatch(r"number \d: worker (\d+) on \S+", note)[1] for note in notes if "worker" in note}
    assert len(workers) >= 2
    assert str(os.getpid()) not in workers
    assert len([note for note in notes if note.endswith("squares are made")]) == 1


def test_what_is_wrong_is_raised_as_it_is_and_not_tried_again(engine, notes, show):
    with pytest.raises(UnknownNameError, match="no number '2'; available: 1, 3") as raised:
        list(engine.run(Work(tasks=[1, 2], do=refuse, unit="numbers"), show))
    assert raised.value.available == ("1", "3")
    assert not any("again" in note for note in notes)


def test_a_task_whose_worker_died_is_done_again(engine, notes, show, tmp_path):
    work = Work(tasks=[str(tmp_path / "begun")], do=die_at_first, unit="files")
    assert list(engine.run(work, show)) == [(0, "done")]
    assert [note.endswith("again: its worker before died") for note in notes] == [False, True]


def test_a_task_whose_worker_always_dies_is_lost_alone(engine, show):
    work = Work(tasks=["a"], do=die, unit="letters", lost=lambda task, reason: (task, reason))
    ((place, (task, reason)),) = engine.run(work, show)
    assert (place, task) == (0, "a")
    assert reason.startswith("its worker died 4 times: ")


def test_gpus_that_are_not_there_are_refused(engine, show):
    with pytest.raises(EngineError, match="device cuda: Ray has no GPU"):
        list(engine.run(Work(tasks=[1], do=str, unit="numbers", device="cuda"), show))
    with pytest.raises(EngineError, match="device cuda:1: Ray deals out the GPUs"):
        list(engine.run(Work(tasks=[1], do=str, unit="numbers", device="cuda:1"), show))


@pytest.fixture(scope="module")
def series(tiny_model, tmp_path_factory):
    """Return a folder of three checkpoints with weights of their own."""
    folder = tmp_path_factory.mktemp("series") / "growing"
    weights = load_file(tiny_model("bert") / "model.safetensors")
    for step in (0, 10, 2000):
        copied = shutil.copytree(tiny_model("bert"), folder / f"step{step}")
        grown = {name: values + values.roll(1) * step**0.5 / 100 for name, values in weights.items()}
        save_file(grown, copied / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Return a store with two corpora."""
    store = tmp_path_factory.mktemp("stores") / "labelled"
    draw = random.Random(3)
    for name in ("texts", "more"):
        texts = [f"{number} {' '.join(draw.choices(WORDS, k=6))}" for number in range(90)]
        labels = [{"task/animal": "cat" in text or "dog" in text, "task/red": "red" in text} for text in texts]
        instances = list(map(Instance, texts, labels))
        build_corpus(Source(instances, "a test", None, "test: drawn", "rest"), name, store=store)
    return store


@pytest.fixture(scope="module")
def serial(labelled, series, tmp_path_factory):
    """Return a store that the serial engine filled."""
    store = shutil.copytree(labelled, tmp_path_factory.mktemp("stores") / "serial")
    ingest_series(str(series), corpus=["texts", "more"], store=store)
    return store


def contents(store):
    """Return the rows of every table of a store, without when and how long."""
    rows = {}
    for table in ("runs", "neurons", "neuron_functions", "top_instances", "function_top_neurons"):
        tables = [pq.read_table(path, partitioning=None) for path in Store(store).files(table)]
        clock = {"started_at", "duration_s"} & set(tables[0].column_names)
        rows[table] = sorted(str(row) for each in tables for row in each.drop_columns(sorted(clock)).to_pylist())
    return rows


@dataclass(frozen=True)
class Killing:
    """An engine whose first worker that has staged a part of scores is killed; `log` says who staged what."""

    engine: RayEngine
    log: Path

    def run(self, work, show):
        yield from self.engine.run(replace(work, do=functools.partial(killed_once, do=work.do, log=self.log)), show)


def killed_once(task, progress, *, do, log):
    from neuronlake.ingest.jobs import sinks
    from neuronlake.schema.job import Job

    sinks.PART_ROWS = 1  # a part for each layer
    write = Job.write

    def logged(job, name, data, *, part=0, **folders):
        write(job, name, data, part=part, **folders)
        with log.open("a") as file:
            file.write(f"{os.getpid()} {job.name} {name} {part}\n")
        if name == "neuron_functions":
            try:
                os.close(os.open(log.with_suffix(".killed"), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)

    Job.write = logged
    try:
        return do(task, progress)
    finally:
        Job.write = write


def test_a_series_of_which_a_worker_is_killed_is_that_of_the_serial_engine(
    engine, notes, show, labelled, series, serial, tmp_path
):
    store = shutil.copytree(labelled, tmp_path / "store")
    log = tmp_path / "log"
    report = ingest_series(
        str(series), corpus=["texts", "more"], store=store, engine=Killing(engine, log), progress=show
    )
    assert [outcome.revision for outcome in report.outcomes] == [
        "step0",
        "step0",
        "step10",
        "step10",
        "step2000",
        "step2000",
    ]
    assert contents(store) == contents(serial)
    assert {commit.job for commit in Store(store).commits()} == {commit.job for commit in Store(serial).commits()}
    assert Store(store).check() == ()
    assert list((store / ".staging").glob("*/")) == []
    staged = [line.split() for line in log.read_text().splitlines()]
    scores = Counter((job, part) for _, job, table, part in staged if table == "neuron_functions")
    assert len(scores) == 6 * 2
    assert set(scores.values()) == {1}, "a part that was staged is made again"
    assert sum("again: its worker before died" in note for note in notes) >= 1
    workers = {note.split()[4] for note in notes if ": worker " in note}
    assert len({pid for pid, *_ in staged} & workers) >= 2


def test_workers_keep_the_rows_of_a_view_as_this_process_does(engine, notes, show, serial, tmp_path):
    kept = {}
    for name, where in (("serial", None), ("ray", engine)):
        shutil.copytree(serial, tmp_path / name)
        with Database(tmp_path / name) as database:
            first, again = (materialize(database, ["specialization"], engine=where, progress=show) for _ in range(2))
        assert all(piece.is_new for piece in first)
        assert [(piece.path, piece.is_new) for piece in again] == [(piece.path, False) for piece in first]
        kept[name] = [piece.path.name for piece in first]  # which holds a digest of the rows
    assert kept["ray"] == kept["serial"]
    assert len(kept["ray"]) > 1
    workers = {note.partition(":")[0] for note in notes if "worker" in note}
    assert workers == {f"specialization {path.split('-')[-2]}" for path in kept["ray"]}


def test_a_driver_that_is_killed_and_started_again_goes_on(engine, labelled, series, serial, tmp_path):
    store = shutil.copytree(labelled, tmp_path / "store")
    arguments = ["ingest", series, "--revisions", "step*", "--corpus", "texts", "--corpus", "more", "--engine", "ray"]
    import ray

    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "neuronlake", "--store", store, *arguments, "--workers", "2", "--address", address]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / ".src")}
    driver = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with driver:
        first = driver.stdout.readline()
        driver.kill()
    assert first.startswith("run ")
    kept = {commit.job for commit in Store(store).commits()}
    again = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    lines = again.stdout.splitlines()
    assert sum("already in the store, nothing done" in line for line in lines) == sum(len(job) == 16 for job in kept)
    assert len(lines) == 6
    assert contents(store) == contents(serial)
    assert Store(store).check() == ()


def test_shards_whose_locks_fail_commit_each_run_once(labelled, series, serial, tmp_path):
    store = shutil.copytree(labelled, tmp_path / "store")
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / ".src"), "NEURONLAKE_LOCKS": "off"}
    shards = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "neuronlake", "--store", store, "ingest", series, "--revisions", "step*"),
                *("--corpus", "texts", "--corpus", "more", "--shard", shard),
            ],
            env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for shard in ("1/2", "2/2", "2/2")  # one of them twice, as when a scheduler starts a job again
    ]  # fmt: skip
    answers = [shard.communicate() for shard in shards]
    assert [shard.returncode for shard in shards] == [0, 0, 0], answers
    assert [len(out.splitlines()) for out, _ in answers] == [3, 3, 3]
    assert contents(store) == contents(serial)
    assert {commit.job for commit in Store(store).commits()} == {commit.job for commit in Store(serial).commits()}
    assert Store(store).check() == ()
    assert list((store / ".staging").glob("*/")) == []
