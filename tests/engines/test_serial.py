"""The serial engine: results in order, one task at a time, and how far an interrupted job came."""

import sys
from contextlib import contextmanager

import pytest

from neuronlake.engines.engine import SerialEngine, Work, engine_called, shard_of
from neuronlake.errors import EngineError, UnknownNameError
from neuronlake.progress import SilentProgress, silently


def run(tasks, do, show=silently):
    return SerialEngine().run(Work(tasks=tasks, do=do, unit="numbers"), show)


def test_results_come_in_order_with_their_places():
    assert list(run(["b", "a"], lambda task, _: task.upper())) == [(0, "B"), (1, "A")]


def test_a_task_begins_when_the_result_before_it_was_taken():
    begun = []
    results = run([1, 2, 3], lambda task, _: begun.append(task))
    assert begun == []
    next(results)
    assert begun == [1]
    next(results)
    assert begun == [1, 2]


def test_an_interruption_says_how_many_tasks_are_done():
    def do(task, _):
        if task == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        list(run([1, 2, 3], do))
    assert stopped.value.__notes__ == ["2 of 3 numbers are done"]


def test_what_a_task_raises_ends_the_work():
    def do(task, _):
        raise ValueError(task)

    with pytest.raises(ValueError, match=r"^1$"):
        list(run([1, 2], do))


def test_a_note_that_several_tasks_make_is_shown_once():
    class Notes(SilentProgress):
        def note(self, text):
            notes.append(text)

    @contextmanager
    def show():
        yield Notes()

    notes = []
    list(run([1, 2], lambda task, progress: [progress.note("all are alike"), progress.note(f"{task}")], show))
    assert notes == ["all are alike", "1", "2"]


@pytest.mark.parametrize("n_shards", [1, 3, 8])
def test_shards_hold_every_task_once(n_shards):
    shards = [shard_of(range(7), f"{number}/{n_shards}") for number in range(1, n_shards + 1)]
    assert sorted(task for shard in shards for task in shard) == list(range(7))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "-1/3", "1/0", ""])
def test_what_is_no_shard_is_refused(shard):
    with pytest.raises(EngineError, match="is no shard such as 1/10"):
        shard_of([1], shard)


def test_engines_are_called_by_name():
    assert isinstance(engine_called("serial"), SerialEngine)
    assert engine_called("ray", workers=3).workers == 3
    with pytest.raises(UnknownNameError, match=r"no engine 'rai'; did you mean 'ray'\?"):
        engine_called("rai")
    with pytest.raises(EngineError, match="workers and address are of engine ray"):
        engine_called("serial", workers=2)


def test_ray_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"engine ray needs the package ray: pip install 'neuronlake\[ray\]'"):
        list(engine_called("ray").run(Work(tasks=[1], do=str, unit="numbers"), silently))
