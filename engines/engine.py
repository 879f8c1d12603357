"""What runs the tasks of a job: tasks in, results out, whoever runs them and wherever."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

__all__ = ["Engine"]

Task = TypeVar("Task")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs the tasks of a job, such as the checkpoints of a series, each of which stages and commits files of its own.

    A task and its result are values that can be sent elsewhere, and the work refers to nothing that only this process
    has, unless the engine stays in it.
    """

    def run(self, tasks: Sequence[Task], work: Callable[[Task], Result], *, unit: str) -> Iterator[Result]:
        """Do the work for every task; yield the results in the order of the tasks, each as soon as it is known.

        Parameters
        ----------
        tasks
            What to do.
        work
            Does one task. What it raises ends the job: what one task may fail alone is a result.
        unit
            What the tasks are, in the plural, for the note on an interruption that says how many are done.
        """
