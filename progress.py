"""How far a job is: a bar on a terminal, a line now and then elsewhere; how much is told is the level of `LOGGER`."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from .errors import printable

_LINE_EVERY_S = 30.0
# Its level is what a person wants to be told: DEBUG adds each query, file and phase, ERROR leaves errors alone.
LOGGER = logging.getLogger("neuronlake")


class Progress:
    """What a job reports to: here nothing, and in a subclass what it defines."""

    def phase(self, name: str, *, total: int, unit: str) -> None:
        """Start a phase of `total` units."""

    def advance(self, amount: int) -> None:
        """Report that so many more units of the phase are done."""

    def note(self, text: str) -> None:
        """Show the person one line."""


class SilentProgress(Progress):
    """Reports nothing."""


Shown = Callable[[], AbstractContextManager[Progress]]
"""Opens where to report, such as `show_progress`."""


def silently() -> AbstractContextManager[Progress]:
    """Open what reports nothing."""
    return nullcontext(SilentProgress())


class LineProgress(Progress):
    """Prints a line to standard error when a phase ends, and every half minute before that."""

    def __init__(self) -> None:
        self._name, self._unit = "", ""
        self._total = self._done = 0
        self._started = self._printed = 0.0

    def phase(self, name: str, *, total: int, unit: str) -> None:
        """Start a phase."""
        LOGGER.debug("%s: %s %s", name, f"{total:,}", unit)
        self._name, self._unit, self._total, self._done = name, unit, total, 0
        self._started = self._printed = time.monotonic()

    def advance(self, amount: int) -> None:
        """Count, and print if it is time."""
        self._done += amount
        now = time.monotonic()
        if self._done < self._total and now - self._printed < _LINE_EVERY_S:
            return
        self._printed = now
        rate = self._done / max(now - self._started, 1e-9)
        line = f"{self._name}: {self._done:,} of {self._total:,} {self._unit}, {_per_second(rate)} a second"
        if self._done < self._total:
            line += f", {(self._total - self._done) / rate:,.0f} s left"
        elif LOGGER.isEnabledFor(logging.DEBUG):
            line += f", {now - self._started:.1f} s in all"
        self.note(line)

    def note(self, text: str) -> None:
        """Print one line."""
        print(printable(text), file=sys.stderr, flush=True)


class TerminalProgress(Progress):
    """A rich progress bar with rate and time left; made by `show_progress`."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                # The bar's own speed is of the last seconds; a phase shorter than that has none.
                speed = task.speed or task.completed / max(task.elapsed or 0, 1e-3)
                return Text(f"{_per_second(speed)} {task.fields['unit']}/s", style="cyan")

        name, share = TextColumn("{task.description:>9}", markup=False), TextColumn("{task.percentage:>3.0f}%")
        self.bar = Bar(name, BarColumn(), share, Rate(), TimeRemainingColumn(), console=Console(stderr=True))
        self._task: int | None = None

    def phase(self, name: str, *, total: int, unit: str) -> None:
        """Start a bar."""
        self._task = self.bar.add_task(printable(name), total=total, unit=unit)

    def advance(self, amount: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self.bar.advance(self._task, amount)  # type: ignore[arg-type]

    def note(self, text: str) -> None:
        """Print one line above the bar."""
        self.bar.console.print(printable(text), highlight=False, markup=False)


def _per_second(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


@contextmanager
def show_progress(keeps: str = "", *, has_bar: bool = True) -> Iterator[Progress]:
    """Yield what suits standard error: a live bar on a terminal if it is to have one, else lines, or silence if quiet.

    `keeps` is what an interruption keeps, which is noted unless the job has noted more.
    """
    try:
        if not LOGGER.isEnabledFor(logging.WARNING):
            yield SilentProgress()
        elif not has_bar or LOGGER.isEnabledFor(logging.DEBUG) or not sys.stderr.isatty():
            yield LineProgress()
        else:
            progress = TerminalProgress()
            with progress.bar:
                yield progress
    except KeyboardInterrupt as error:
        if keeps and not hasattr(error, "__notes__"):
            error.add_note(keeps)
        raise
