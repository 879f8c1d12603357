"""Ctrl-C and SIGTERM: a command stops, says in one line what is kept, and exits 130 or 143."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import click

__all__ = ["stopping_in_one_line"]

# What is blocked in another library, as in opening a pipe that nobody writes to, never comes to see the signal.
_GRACE_S = 2.0
_LINES = {signal.SIGINT: "stopped", signal.SIGTERM: "terminated"}


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which unwinds as Ctrl-C does."""


@contextlib.contextmanager
def stopping_in_one_line() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a line, with the notes that a job adds of what it keeps, and an exit status.

    Raises
    ------
    click.exceptions.Exit
        If the command was stopped: 130 or 143.
    """
    with contextlib.ExitStack() as undo:
        if threading.current_thread() is threading.main_thread():
            _watch(undo)
        try:
            yield
        except KeyboardInterrupt as error:
            number = signal.SIGTERM if isinstance(error, _Terminated) else signal.SIGINT
            kept = "; ".join(getattr(error, "__notes__", []))
            click.echo(f"{_LINES[number]}: {kept}" if kept else _LINES[number], err=True)
            if any(thread.name == "neuronlake-query" for thread in threading.enumerate()):
                os._exit(128 + number)  # DuckDB waits for a file: it would hold up the end, and complain of it
            raise click.exceptions.Exit(128 + number) from error


def _watch(undo: contextlib.ExitStack) -> None:
    """Raise where Python runs when a signal comes; end the process where that does not happen for a while."""
    is_raised = threading.Event()

    def stop(number: int, _: FrameType | None) -> None:
        is_raised.set()
        raise _Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def end_what_is_blocked() -> None:
        while number := os.read(reading, 1)[0]:
            if number in _LINES and not is_raised.wait(_GRACE_S):
                os.write(2, f"{_LINES[signal.Signals(number)]}\n".encode())
                os._exit(128 + number)

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    watcher = threading.Thread(target=end_what_is_blocked, daemon=True)
    watcher.start()
    # What a shell or nohup has the command ignore stays so.
    heard = [number for number in _LINES if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def unwatch() -> None:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writing, b"\0")
        watcher.join()
        os.close(reading)
        os.close(writing)

    undo.callback(unwatch)
