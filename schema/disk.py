"""What a store asks of a disk: writes that survive a loss of power, locks, no symbolic links, errors of one line."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import StoreError

__all__ = ["fault", "is_held", "locked", "make_folder", "replace_text", "store_errors", "sync"]


@contextlib.contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turn an `OSError` into a `StoreError` that says what could not be done: ``cannot write FILE: No space left``.

    Parameters
    ----------
    doing
        The beginning of the message, such as ``cannot write FILE``.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(f"{doing}: {error.strerror or error}") from error


def fault(root: Path, relative: str) -> str | None:
    """Return why a file below `root` must not be opened, or None if it may be.

    A symbolic link would show another place as part of the store, and a pipe would keep its reader waiting for ever.

    Parameters
    ----------
    root
        The store's folder, which may be a link itself.
    relative
        Path of the file below it, with forward slashes.
    """
    path = os.fspath(root)
    mode = 0
    for part in relative.split("/"):
        path = f"{path}/{part}"
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if stat.S_ISLNK(mode):
            return f"not read: {os.path.relpath(path, root)} is a symbolic link, and a store holds its files itself"
    return None if stat.S_ISREG(mode) else "not read: no regular file"


def make_folder(folder: Path) -> None:
    """Make a folder and the missing ones above it, each written to disk before anything is put in it."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync(new.parent)


def sync(path: Path) -> None:
    """Wait until the disk holds a file's content, or a folder's list of files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str, temporary: Path) -> None:
    """Write `text` to `path` by way of the file `temporary`: a reader sees the old or the new text, never a half."""
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is missing; wait while another process holds it."""
    while True:
        make_folder(folder)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Whoever held it before may have removed it.
            if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
                yield
                return
        finally:
            os.close(descriptor)


def is_held(lock: Path) -> bool:
    """Return whether a process may hold the lock of a file."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
