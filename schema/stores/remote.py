"""A store at a URL, and one in a zip archive: each is read by ranges of bytes, in place, and never written.

``http``, ``https`` and ``s3`` are read by obstore, and a dataset repository ``hf://datasets/OWNER/NAME`` of the Hugging
Face Hub by the same ranges, under the address that huggingface_hub gives. The members of an archive are stored as they
are, so that ranges of them can be read.
"""

import os
import shutil
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import StoreError
from ..commits import Commit, CommittedFile, parse_commit
from ..disk import store_errors
from .reading import INDEX, ReadOnlyStore

if TYPE_CHECKING:
    from obstore.store import ObjectStore


class RemoteStore(ReadOnlyStore):
    """The files of a store at ``http(s)://…``, ``s3://BUCKET/…`` or ``hf://datasets/OWNER/NAME``."""

    def __init__(self, url: str) -> None:
        super().__init__(url.rstrip("/"))
        self.scheme = url.partition("://")[0]
        self.objects = _open_objects(self.name)

    @property
    def root(self) -> str:
        """The URL, to which paths of files are added."""
        return self.name

    def address(self, file: CommittedFile) -> str:
        """Return the URL of a committed file."""
        return f"{self}/{file.path}"

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of a file, all of them without `length`; a `StoreError` says what could not be read."""
        import obstore

        with store_errors(f"cannot read {self}/{path}", obstore.exceptions.BaseError):
            if length is None:
                return bytes(obstore.get(self.objects, path).bytes())
            return bytes(obstore.get_range(self.objects, path, start=start, length=length))

    def read_commits(self) -> Sequence[Commit]:
        """Return the commits, in any order."""
        if self.scheme != "s3":
            return super().read_commits()
        # There a folder can be listed, and an index could lag behind.
        import obstore

        with store_errors(f"cannot list {self}/commits", obstore.exceptions.BaseError):
            found = [entry["path"] for page in obstore.list(self.objects, "commits") for entry in page]
        commits = []
        for path in sorted(path for path in found if path.endswith(".json")):
            with store_errors(f"cannot read the commit {self}/{path}", ValueError, RecursionError):
                commits.append(parse_commit(self.read(path)))
        return commits


def _open_objects(url: str) -> "ObjectStore":
    scheme = url.partition("://")[0]
    if scheme not in ("http", "https", "s3", "hf"):
        raise StoreError(f"cannot read {url}: a store is a folder, or at http://, https://, s3:// or hf://datasets/")
    from obstore.exceptions import BaseError
    from obstore.store import HTTPStore, S3Store

    address, headers = url, dict[str, str]()
    if scheme == "hf":  # the address of a dataset repository, and the headers that let its reader in
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        name, revision = repository(url)
        index = hf_hub_url(name, INDEX, repo_type="dataset", revision=revision)
        address, headers = index.removesuffix(f"/{INDEX}"), dict(build_hf_headers())
    with store_errors(f"cannot read {url}", BaseError, ValueError):
        if scheme == "s3":
            return S3Store.from_url(url, client_options={"allow_http": True})
        return HTTPStore.from_url(address, client_options={"allow_http": True, "default_headers": headers})


def repository(url: str) -> tuple[str, str | None]:
    """Return name and revision of the Hub's dataset repository at a URL; one of another kind is a `StoreError`."""
    kind, _, name = url.partition("://")[2].partition("/")
    name, _, revision = name.partition("@")
    if not url.startswith("hf://") or kind != "datasets" or name.count("/") != 1:
        raise StoreError(f"{url} is no dataset repository: hf://datasets/OWNER/NAME, or …/NAME@REVISION")
    return name, revision or None


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
                shutil.copyfileobj(source, written, 1 << 20)
