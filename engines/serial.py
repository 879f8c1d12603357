"""Tasks in this process, one after another."""

from collections.abc import Iterator
from typing import TypeVar

from ..progress import Progress, Shown
from .engine import Work

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


class SerialEngine:
    """Runs tasks in this process, one after another, each with a progress of its own.

    Examples
    --------
    >>> report = neuronlake.ingest_series(
    ...     "tiny-series", corpus="animals", store="neuronlake-store", engine=neuronlake.SerialEngine()
    ... )
    >>> len(report.failures)
    0
    """

    def run(self, work: Work[_Task, _Result], show: Shown) -> Iterator[tuple[int, _Result]]:
        """Do every task in order; a task begins when the result before it was taken."""
        noted = set[str]()
        for place, task in enumerate(work.tasks):
            try:
                with show() as progress:
                    result = work.do(task, _NotingOnce(progress, noted))
            except KeyboardInterrupt as error:
                error.add_note(f"{place} of {len(work.tasks)} {work.unit} are done")
                raise
            yield place, result


class _NotingOnce(Progress):
    """Passes progress on, but a note only the first time: what is true of one task is often true of all."""

    def __init__(self, progress: Progress, noted: set[str]) -> None:
        self.phase, self.advance = progress.phase, progress.advance  # type: ignore[method-assign]
        self._progress, self._noted = progress, noted

    def note(self, text: str) -> None:
        """Pass a new note on."""
        if text not in self._noted:
            self._noted.add(text)
            self._progress.note(text)
