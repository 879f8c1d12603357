"""Tasks in this process, one after another."""

from collections.abc import Callable, Iterator, Sequence

from .engine import Result, Task


class Serial:
    """Runs tasks one after another: a task begins when the result before it was taken."""

    def run(self, tasks: Sequence[Task], do: Callable[[Task], Result], *, unit: str) -> Iterator[Result]:
        """Do every task (see `Engine.run`).

        Examples
        --------
        >>> list(Serial().run([2, 3], lambda task: task**2, unit="squares"))
        [4, 9]
        """
        for n_done, task in enumerate(tasks):
            try:
                result = do(task)
            except KeyboardInterrupt as error:
                error.add_note(f"{n_done} of {len(tasks)} {unit} are done")
                raise
            yield result
