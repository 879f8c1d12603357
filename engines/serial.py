"""Tasks in this process, one after another."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def run_serially(tasks: Sequence[_Task], do: Callable[[_Task], _Result], *, unit: str) -> Iterator[_Result]:
    """Do every task, such as the checkpoints of a series; yield the results in order, as soon as they are known.

    A task begins when the result before it was taken. What `do` raises ends the job: a failure that concerns one task
    alone is a result. `unit` says what the tasks are, in the plural, for the note on an interruption.

    >>> list(run_serially([2, 3], lambda task: task**2, unit="squares"))
    [4, 9]
    """
    for n_done, task in enumerate(tasks):
        try:
            result = do(task)
        except KeyboardInterrupt as error:
            error.add_note(f"{n_done} of {len(tasks)} {unit} are done")
            raise
        yield result
