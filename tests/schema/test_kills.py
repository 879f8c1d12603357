"""A writer killed at every step it asks of the file system: nothing is lost, and the same job again heals the store."""

import itertools
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from neuronlake.schema.store import Store

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]

_STEPS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "fcntl.flock")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
Act = Callable[[Path], object]


def is_killed(act: Act, path: Path, step: int) -> bool:
    """Run `act` in a process that dies as it is about to take its `step`-th step; return False if it takes fewer."""
    process = os.fork()
    if process == 0:
        n_steps = 0

        def count(event: str, arguments: tuple) -> None:
            nonlocal n_steps
            n_steps += event in _STEPS or (event == "open" and bool(arguments[2] & _WRITING))
            if n_steps == step:
                os._exit(9)

        signal.alarm(60)
        sys.addaudithook(count)
        try:
            act(path)
        finally:
            os._exit(0)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 9)
    return os.waitstatus_to_exitcode(status) == 9


@pytest.fixture(params=[True, False], ids=["resumed in a new store", "started over beside another job"])
def resume(request) -> bool:
    return request.param


@pytest.fixture
def act(resume, neurons) -> Act:
    """Return a command: measure two parts of neurons, unless the store holds them."""

    def measure(path: Path) -> None:
        store = Store(path)
        if store.commit("j") is None:
            with store.job("j", kind="run", resume=resume) as job:
                for part in (0, 1):
                    if not job.is_staged("neurons", part):
                        rows = neurons(run_id="j", neuron=range(part * 3, part * 3 + 3))
                        job.write("neurons", rows, part=part, model="m", revision="main")
                job.commit()

    return measure


@pytest.fixture
def before(resume, tmp_path, experts) -> Path:
    """Return a store before the command: none at all, or one of another job."""
    store = Store(tmp_path / "before")
    if not resume:
        add_partition(store, experts(), "p")
    return store.path


def add_partition(store: Store, rows: pa.Table, name: str) -> None:
    with store.job(name, kind="partition") as job:
        job.write("experts", rows)
        job.commit()


def contents(path: Path) -> dict[str, object]:
    """Return all files of a store that are not work in progress, without the times of its commits."""
    files = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    kept = {name: content for name, content in files.items() if not name.startswith(".staging/")}
    commits = {name: json.loads(content) for name, content in kept.items() if name.startswith("commits/")}
    return kept | {name: {**commit, "committed_at": None} for name, commit in commits.items()}


def killed(act: Act, before: Path, steps: Iterable[int]) -> Iterator[Path]:
    """Yield a copy of the store for every step, its writer killed there."""
    for step in steps:
        path = before.with_name(f"killed-{step}")
        if before.exists():
            shutil.copytree(before, path)
        if not is_killed(act, path, step):
            return
        yield path


def test_wherever_a_job_is_killed_the_same_command_makes_the_store_whole(act, before):
    expected = before.with_name("expected")
    if before.exists():
        shutil.copytree(before, expected)
    act(expected)
    n_killed = 0
    for path in killed(act, before, itertools.count(1)):
        n_killed += 1
        store = Store(path)
        store.commits()
        assert all(file.exists() for file in store.files("neurons"))
        act(path)
        assert store.check() == ()
        assert contents(path) == contents(expected)
        assert store.unfinished() == {}
    assert n_killed > 20


def test_wherever_a_job_is_killed_the_next_job_removes_what_cannot_go_on(act, before, experts):
    for path in killed(act, before, range(2, 60, 4)):
        store = Store(path)
        is_committed = store.commit("j") is not None
        add_partition(store, experts(partition_id="q"), "q")
        assert store.check() == ()
        assert set(store.unfinished().values()) <= {"unfinished"}
        assert store.files("neurons") == () or is_committed


def test_a_job_killed_again_and_again_gets_there(act, before):
    chance = random.Random(0)
    path = before.with_name("killed")
    if before.exists():
        shutil.copytree(before, path)
    n_killed = 0
    while is_killed(act, path, chance.randrange(1, 30)):
        n_killed += 1
        assert n_killed < 200
    assert n_killed
    assert Store(path).check() == ()
    assert len(Store(path).files("neurons")) == 2
