"""Ctrl-C and SIGTERM: one line, an exit status of their own, and no waiting for what is blocked."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / ".src")}


@pytest.mark.parametrize(("number", "line"), [(signal.SIGINT, "stopped\n"), (signal.SIGTERM, "terminated\n")])
def test_a_read_that_is_blocked_stops(number, line):
    os.mkfifo("steps.json")
    process = subprocess.Popen(
        [sys.executable, "-m", "neuronlake", "ingest", "model", "--corpus", "words", "--steps", "steps.json"],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None:  # until it reads
        try:
            writing = os.open("steps.json", os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:
            time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    os.close(writing)
    assert (process.returncode, errors) == (128 + number, line)


def test_a_library_that_makes_an_error_of_its_own_of_a_signal_is_stopped_all_the_same():
    script = """if True:
        import os, signal
        from neuronlake.commands.stopping import stopping_in_one_line
        with stopping_in_one_line(ends_process=True):
            print("said before")
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except KeyboardInterrupt as error:
                raise RuntimeError("Query interrupted") from error
        """
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, b"said before\n", b"terminated\n")


def test_what_never_comes_back_to_python_ends_all_the_same():
    script = """if True:
        import ctypes, os, signal, threading
        from neuronlake.commands import stopping
        stopping._GRACE_S = 0.1
        mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
        with stopping.stopping_in_one_line(ends_process=True):
            library.pthread_mutex_lock(mutex)
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
            library.pthread_mutex_lock(mutex)
        """
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (143, b"terminated\n")


def test_handlers_are_gone_after_a_command(succeeds):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    succeeds("--store", ".", "sql", "select 1")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
