"""Ctrl-C and SIGTERM: a command stops, says in one line what is kept, and exits 130 or 143."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import click

# What is blocked in another library, as in opening a pipe that nobody writes to, never comes to see the signal.
_GRACE_S = 2.0
_LINES = {signal.SIGINT: "stopped", signal.SIGTERM: "terminated"}


@contextlib.contextmanager
def stopping_in_one_line(*, ends_process: bool) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a line, with the notes that a job adds of what it keeps, and a status of 130 or 143.

    The process ends after the line (`ends_process`), where the command is all that it is for; or else the stopped
    command raises `click.exceptions.Exit`.
    """
    heard: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    with _watching(heard) if is_main else contextlib.nullcontext():
        try:
            yield
        except BaseException as error:
            # DuckDB raises an error of its own where a signal stops it.
            if not heard and not isinstance(error, KeyboardInterrupt):
                raise
            number = signal.Signals(heard[0] if heard else signal.SIGINT)
            kept = "; ".join(getattr(error, "__notes__", []))
            click.echo(f"{_LINES[number]}: {kept}" if kept else _LINES[number], err=True)
            # At once: DuckDB may wait for a file, and whoever asks again would break into Python's own end.
            if heard and ends_process:
                with contextlib.suppress(OSError):
                    sys.stdout.flush()
                os._exit(128 + number)
            raise click.exceptions.Exit(128 + number) from error


@contextlib.contextmanager
def _watching(heard: list[int]) -> Iterator[None]:
    """Add a signal that comes to `heard` and raise in Python; end the process where Python does not run for a while."""
    is_raised = threading.Event()

    def stop(number: int, _: FrameType | None) -> None:
        is_raised.set()
        heard.append(number)
        raise KeyboardInterrupt

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
    minded = [number for number in _LINES if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in minded}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writing, b"\0")
        watcher.join()
        os.close(reading)
        os.close(writing)
