"""What an engine is asked, the engine of this process, and the share of the tasks that is this machine's."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar, get_args

from ..errors import EngineError, check_known
from ..progress import Progress, Shown

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")
_Item = TypeVar("_Item")

EngineName = Literal["serial", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Generic[_Task, _Result]):
    """Tasks, and how each is done.

    Tasks and results are small values that pickle, such as requests and paths, and so is `do`. A `NeuronlakeError` that
    `do` raises is the fault of what was asked: it ends the work, and no task is tried again for it.
    """

    tasks: Sequence[_Task]
    do: Callable[[_Task, Progress], _Result]
    unit: str  # what the tasks are, in the plural
    label: Callable[[_Task], str] = str  # names a task in what is shown
    # What stands for the result of a task whose worker died every time, by the task and how it died; None: an
    # `EngineError`.
    lost: Callable[[_Task, str], _Result] | None = None
    device: str = "cpu"  # torch device that each task is done on


class Engine(Protocol):
    """Where tasks run."""

    def run(self, work: Work[_Task, _Result], show: Shown) -> Iterator[tuple[int, _Result]]:
        """Do all tasks; yield place and result of each as soon as it is known; note on an interruption how far."""
        ...


def engine_called(name: EngineName, *, workers: int | None = None, address: str | None = None) -> Engine:
    """Return the engine of a name; `workers` and `address` are those of `RayEngine`, and none of the serial one's."""
    if name == "serial":
        if workers is not None or address is not None:
            raise EngineError("workers and address are of engine ray; engine serial runs in this process")
        return SerialEngine()
    check_known("engine", [name], get_args(EngineName))
    from .ray import RayEngine

    return RayEngine(workers=workers, address=address)


def shard_of(tasks: Sequence[_Item], shard: str | None) -> tuple[_Item, ...]:
    """Return the tasks of one shard such as ``3/10``, the third of ten: every tenth from the third on; None: all.

    Shards of the same tasks hold each task once. Raises EngineError unless the shard is one of so many.

    >>> shard_of("abcdefg", "1/3")
    ('a', 'd', 'g')
    """
    if shard is None:
        return tuple(tasks)
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard, re.ASCII)
    number, n_shards = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= n_shards:
        raise EngineError(f"{shard!r} is no shard such as 1/10, which is the first of ten")
    return tuple(tasks[number - 1 :: n_shards])


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
        if text not in self._noted:
            self._noted.add(text)
            self._progress.note(text)
