"""What a store asks of a disk: folders and files that outlive a loss of power, locks, and no links in between."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["fault", "is_held", "locked", "make_folder", "replace_text", "sync"]


def fault(root: Path, relative: str) -> str | None:
    """Return why a file below `root` is not to be opened, None if it may be.

    A link would show another place as part of the store, and a pipe would keep its reader waiting for ever.

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
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync(each.parent)


def sync(path: Path) -> None:
    """Have the disk keep a file's content, or a folder's list of files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str, temporary: Path) -> None:
    """Write `text` to `path` so that a reader sees the old or the new file, never a half."""
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made if it is missing, against all others who do the same, waiting for it."""
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
    """Return whether a process may hold the lock on a file."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
