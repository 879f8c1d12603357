"""What runs the tasks of a job, in this process or elsewhere: tasks in, results out."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs the tasks of a job, such as the checkpoints of a series; a task stages and commits files of its own.

    Tasks and results are values that can be sent elsewhere, and what does a task refers to nothing that only this
    process has, unless the engine stays in it.
    """

    def run(self, tasks: Sequence[Task], do: Callable[[Task], Result], *, unit: str) -> Iterator[Result]:
        """Do every task; yield the results in the order of the tasks, as soon as they are known.

        What `do` raises ends the job: a failure that concerns one task alone is a result. `unit` says what the tasks
        are, in the plural, for the note on an interruption.
        """
