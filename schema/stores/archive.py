"""A pack in one file: a zip archive whose members are stored as they are, so that ranges of them are read in place."""

import os
import struct
import zipfile
from pathlib import Path

from ...errors import StoreError
from ..commits import CommittedFile
from ..disk import store_errors
from .reading import ReadOnlyStore


class ArchiveStore(ReadOnlyStore):
    """The files of a store in a zip archive: its index of commits, and the members that commits name."""

    # Nothing is unpacked, so no name of a member can lead out of a folder; nothing is compressed, so none can grow.
    scheme = "zip"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(os.fspath(path))
        self.path = self.path.absolute()
        if not self.path.is_file():
            raise StoreError(f"no store at {self}: it is no file")
        unreadable = (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError)
        with store_errors(f"cannot read {self}", *unreadable), zipfile.ZipFile(self.path) as archive:
            self._members = {member.filename: member for member in archive.infolist()}
        self._size_bytes = self.path.stat().st_size

    def address(self, file: CommittedFile) -> str:
        """Return the address of a committed file, as DuckDB is told it."""
        return f"zip://{self.path}/{file.path}"

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of a member, all of them without `length`; a `StoreError` says what could not be read."""
        member = self._members.get(path)
        with store_errors(f"cannot read {self}/{path}", struct.error):
            if member is None:
                raise StoreError(f"{self} holds no {path}")
            is_encrypted, is_cut = member.flag_bits & 1, member.file_size > self._size_bytes
            if member.compress_type != zipfile.ZIP_STORED or is_encrypted or is_cut:
                raise StoreError(f"{path} is compressed, encrypted or cut, and not as 'share pack' writes it")
            if start + (length or 0) > member.file_size:
                raise StoreError(f"{path} is shorter than its commit says")
            with self.path.open("rb") as file:
                file.seek(member.header_offset + 26)
                n_name, n_extra = struct.unpack("<HH", file.read(4))
                file.seek(member.header_offset + 30 + n_name + n_extra + start)
                left = member.file_size - start
                return file.read(left if length is None else min(length, left))


def write_archive(folder: Path, target: Path) -> None:
    """Write the files of a folder into a zip archive, which is the same bytes each time."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            member = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            member.file_size = path.stat().st_size  # beyond 4 GB the header is another
            with path.open("rb") as source, archive.open(member, "w") as written:
                while piece := source.read(1 << 20):
                    written.write(piece)
