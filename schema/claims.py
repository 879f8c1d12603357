"""The folders of jobs on a disk without locks, as some network file systems are.

There a process works on a job in a folder of its own, called ``<job>=<host>=<process>=<its start>=<token>``. What an
earlier attempt left it takes over by renaming, which only one of several processes can do: a folder ``<job>`` that was
given back, or one of this machine whose process is gone. Of a process that was killed on another machine nobody here
can tell, so that its job starts over.
"""

import contextlib
import os
import secrets
import shutil
import socket
from pathlib import Path

# No job's name has it as a part of a path.
_SEPARATOR = "="


def job_of(folder: str) -> str:
    """Return the job, as paths spell it, whose folder in ``.staging`` has this name."""
    return folder.partition(_SEPARATOR)[0]


def is_claim(folder: str) -> bool:
    """Return whether a folder of this name is a process's own."""
    return _SEPARATOR in folder


def is_held(folder: str) -> bool:
    """Return whether the process that a folder names may be running."""
    _, host, process, start, _ = (*folder.split(_SEPARATOR), "", "", "", "")[:5]
    if host != _host() or not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return _start(int(process)) == start  # else the number is another process's by now


def claim(staging: Path, job: str) -> Path:
    """Return a folder in `staging` for this process to do a job in, with what an earlier attempt left if possible."""
    own = f"{job}{_SEPARATOR}{_host()}{_SEPARATOR}{os.getpid()}{_SEPARATOR}{_start(os.getpid())}"
    mine = staging / f"{own}{_SEPARATOR}{secrets.token_hex(4)}"
    others = [folder for folder in sorted(staging.iterdir()) if is_claim(folder.name) and job_of(folder.name) == job]
    for left in (staging / job, *(folder for folder in others if not is_held(folder.name))):
        with contextlib.suppress(FileNotFoundError):
            return left.rename(mine)
    mine.mkdir()
    return mine


def give_back(folder: Path) -> None:
    """Leave a folder for the next attempt at its job; it is removed where another was given back meanwhile."""
    try:
        folder.rename(folder.with_name(job_of(folder.name)))
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)


def _host() -> str:
    return socket.gethostname().replace(_SEPARATOR, "-").replace("/", "-")


def _start(process: int) -> str:
    """Return when a process started, in units of the machine's; nothing where that cannot be known."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
