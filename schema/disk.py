"""The disk under a store: writes that survive a loss of power, locks, no symbolic links, errors of one line."""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import StoreError, one_line

# How a file system says that it cannot lock, and that it cannot link.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_LINKS = _NO_LOCKS | {errno.EPERM}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR}
_LOCK = ".lock"  # no job is called so
LOCKS_VARIABLE = "NEURONLAKE_LOCKS"
"""Environment variable; ``off`` where a file system shared by machines keeps the locks of each to itself."""


@contextlib.contextmanager
def store_errors(doing: str, *others: type[Exception]) -> Iterator[None]:
    """Turn an `OSError`, or one of `others`, into a `StoreError` of the form ``{doing}: {reason}``."""
    expected: tuple[type[Exception], ...] = (OSError, *others)
    try:
        yield
    except expected as error:
        raise StoreError(f"{doing}: {getattr(error, 'strerror', None) or one_line(error)}") from error


def fault(root: Path, relative: str) -> str | None:
    """Return why the file at a `relative` path below `root`, itself maybe a link, must not be opened; None if it may.

    A symbolic link would show another place as part of the store, and a pipe would keep its reader waiting for ever.
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
    """Make a folder and the missing ones above it, and write them to disk before anything is put in them."""
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


def create_text(path: Path, text: str, temporary: Path, *, is_locked: bool) -> bool:
    """Write `text` to `path` by way of the file `temporary` unless `path` exists; return whether it did not.

    Of several processes that do so at once one succeeds, without any lock. Where the disk has no links, a lock that the
    caller has makes sure of it (`is_locked`).
    """
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may repeat what it did when the answer was lost.
        return path.samefile(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS or not is_locked:
            raise
        temporary.replace(path)
    sync(path.parent)
    return True


@contextlib.contextmanager
def exclusive(path: Path, *, waits: bool = True, creates: bool = False) -> Iterator[int | None]:
    """Lock a file or folder and yield its descriptor; where another process has it locked, wait, or else yield None."""
    if os.environ.get(LOCKS_VARIABLE) == "off":
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    try:  # NFS locks no file that is not open for writing, and a folder only for the processes of one machine
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | (os.O_CREAT if creates else 0), 0o666)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE or not path.exists():
            raise
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        locked = None
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
            locked = descriptor
        yield locked
    finally:
        os.close(descriptor)


def has_locks(folder: Path) -> bool:
    """Return whether the disk of a folder, which is made if it is missing, has locks that this process may take."""
    make_folder(folder)
    try:
        with exclusive(folder / _LOCK, waits=False, creates=True):
            return True
    except OSError as error:
        if error.errno not in _NO_LOCKS | _NOT_WRITABLE:
            raise
        return False


@contextlib.contextmanager
def locked(folder: Path, *, is_needed: bool = True) -> Iterator[None]:
    """Lock a folder, which is made if it is missing, by a file in it; wait while another process has it locked."""
    if not is_needed and not has_locks(folder):  # entered on a disk without locks too
        yield
        return
    while True:
        make_folder(folder)
        lock = folder / _LOCK
        with exclusive(lock, creates=True) as descriptor:
            # Whoever had it locked before may have removed it.
            if lock.exists() and descriptor is not None and os.path.samestat(os.fstat(descriptor), lock.stat()):
                yield
                return


def remove_folder(folder: Path) -> None:
    """Remove a folder that holds nothing but its lock, which the caller has."""
    if all(path.name == _LOCK for path in folder.iterdir()):
        (folder / _LOCK).unlink(missing_ok=True)
    folder.rmdir()


def is_locked(path: Path) -> bool:
    """Return whether a process may have a file locked."""
    try:
        with exclusive(path, waits=False) as descriptor:
            return descriptor is None
    except FileNotFoundError:
        return False
    except OSError:
        return True
