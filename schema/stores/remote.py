"""A store at a URL, which is read and never written: its commits from one index, its files by ranges of bytes.

``http``, ``https`` and ``s3`` are read by obstore, and a dataset repository ``hf://datasets/OWNER/NAME`` of the Hugging
Face Hub by the same ranges, under the address that huggingface_hub gives.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import StoreError, one_line
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

        try:
            if length is None:
                return bytes(obstore.get(self.objects, path).bytes())
            return bytes(obstore.get_range(self.objects, path, start=start, length=length))
        except (OSError, obstore.exceptions.BaseError) as error:
            raise StoreError(f"cannot read {self}/{path}: {one_line(error)[:200]}") from error

    def read_commits(self) -> Sequence[Commit]:
        """Return the commits, in any order."""
        if self.scheme != "s3":
            return super().read_commits()
        # There a folder can be listed, and an index could lag behind.
        import obstore

        try:
            found = [entry["path"] for page in obstore.list(self.objects, "commits") for entry in page]
        except (OSError, obstore.exceptions.BaseError) as error:
            raise StoreError(f"cannot list {self}/commits: {one_line(error)[:200]}") from error
        commits = []
        for path in sorted(path for path in found if path.endswith(".json")):
            with store_errors(f"cannot read the commit {self}/{path}", ValueError, RecursionError):
                commits.append(parse_commit(json.loads(self.read(path))))
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
    try:
        if scheme == "s3":
            return S3Store.from_url(url, client_options={"allow_http": True})
        return HTTPStore.from_url(address, client_options={"allow_http": True, "default_headers": headers})
    except (BaseError, ValueError) as error:
        raise StoreError(f"cannot read {url}: {one_line(error)[:200]}") from error


def repository(url: str) -> tuple[str, str | None]:
    """Return name and revision of the Hub's dataset repository at a URL; one of another kind is a `StoreError`."""
    kind, _, name = url.partition("://")[2].partition("/")
    name, _, revision = name.partition("@")
    if not url.startswith("hf://") or kind != "datasets" or name.count("/") != 1:
        raise StoreError(f"{url} is no dataset repository: hf://datasets/OWNER/NAME, or …/NAME@REVISION")
    return name, revision or None
