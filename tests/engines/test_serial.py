"""The serial engine: results in order, one task at a time, and how far an interrupted job came."""

import pytest

from neuronlake.engines.serial import run_serially


def test_results_come_in_the_order_of_the_tasks():
    assert list(run_serially(["b", "a", "c"], str.upper, unit="letters")) == ["B", "A", "C"]


def test_a_task_begins_when_the_result_before_was_taken():
    begun = []
    results = run_serially([1, 2, 3], begun.append, unit="numbers")
    assert begun == []
    next(results)
    assert begun == [1]


def test_an_error_ends_the_job():
    done = []

    def do(task):
        if task == 2:
            raise ValueError("two")
        done.append(task)

    with pytest.raises(ValueError, match="two"):
        list(run_serially([1, 2, 3], do, unit="numbers"))
    assert done == [1]


def test_an_interruption_says_how_many_are_done():
    def do(task):
        if task == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        list(run_serially([1, 2, 3], do, unit="numbers"))
    assert stopped.value.__notes__ == ["1 of 3 numbers are done"]
