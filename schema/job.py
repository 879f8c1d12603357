"""A job: tables staged part by part, and then committed at once."""

import datetime
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StoreError
from . import disk
from .commits import Commit, CommittedFile, Place, neuronlake_version
from .identity import file_sha256
from .names import check_name, folder_name
from .tables import SCHEMA_VERSION, TABLES, table

if TYPE_CHECKING:
    import pyarrow as pa

    from .store import Store

__all__ = ["Job"]


class Job:
    """Work in progress, made by `Store.job`: write tables part by part, then commit once."""

    def __init__(self, store: "Store", name: str, kind: str, staging: Path) -> None:
        self.name = name
        self.kind = kind
        self._store = store
        self._staging = staging

    def folder(self, name: str) -> Path:
        """Return a folder for what is kept from one attempt at the job to the next; gone with its commit."""
        folder = self._staging / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write {folder}: {error.strerror or error}") from error
        return folder

    def is_staged(self, name: str, part: int) -> bool:
        """Return whether part `part` of table `name` was staged completely, now or by an earlier attempt."""
        return any(place.part == part for place in self._staged(name))

    def write(
        self,
        name: str,
        data: "pa.Table",
        *,
        part: int = 0,
        model: str | None = None,
        revision: str | None = None,
    ) -> None:
        """Check rows against their declaration and stage them as one file.

        Parameters
        ----------
        name
            The table.
        data
            The rows; string keys may be dictionary-encoded.
        part
            Number of the file within the job and table.
        model, revision
            Folders to put the file in, where the table has a model.

        Raises
        ------
        SchemaError
            If the rows do not conform; nothing is written.
        StoreError
            If a name cannot be part of a path, or the disk refuses.
        """
        from . import parquet
        from .conformance import check

        declared = table(name)
        check(declared, data)
        named = {"model": model, "revision": revision}
        for what, each in named.items():
            if each is not None:
                check_name(what, each)
        folders = [folder_name(each) for each in named.values() if each is not None]
        path = self._staging.joinpath(name, *folders, f"{folder_name(self.name)}-{part}.parquet")
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = {"job": self.name, "neuronlake_version": neuronlake_version()}
            if self.kind == "run":
                metadata["run_id"] = self.name
            parquet.write(declared, data, partial, metadata=metadata)
            disk.sync(partial)
            partial.replace(path)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error

    def commit(self) -> Commit:
        """Make everything staged visible at once and return the commit.

        Raises
        ------
        StoreError
            If the disk refuses; nothing becomes visible.
        """
        from . import card, parquet

        store, staging = self._store, self._staging
        try:
            by_part = sorted(self._staged(*TABLES).items(), key=lambda each: (each[0].folder, each[0].part))
            files = {
                staged: CommittedFile(
                    path=f"data/{staged.relative_to(staging).as_posix()}",
                    table=place.table,
                    n_rows=parquet.n_rows(staged),
                    size_bytes=staged.stat().st_size,
                    sha256=file_sha256(staged),
                )
                for place, staged in by_part
            }
            commit = Commit(
                job=self.name,
                kind=self.kind,
                schema_version=SCHEMA_VERSION,
                neuronlake_version=neuronlake_version(),
                committed_at=datetime.datetime.now(datetime.UTC).isoformat(),
                files=tuple(files.values()),
            )
            for staged, file in files.items():
                target = store.path / file.path
                disk.make_folder(target.parent)
                staged.replace(target)
                disk.sync(target.parent)
            disk.make_folder(store.path / "commits")
            # The card first: if it cannot be written, nothing is committed. One at a time, so that no job's card
            # lacks what another commits meanwhile.
            with disk.locked(store.staging):
                card_text = card.text((*store.commits(), commit))
                disk.replace_text(store.path / "README.md", card_text, staging / "card.md")
                text = json.dumps(asdict(commit), indent=1) + "\n"
                name = f"{folder_name(self.name)}.json"
                disk.replace_text(store.path / "commits" / name, text, staging / "commit.json")
                shutil.rmtree(staging, ignore_errors=True)
        except OSError as error:
            raise StoreError(f"cannot write the store {store.path}: {error.strerror or error}") from error
        return commit

    def _staged(self, *tables: str) -> dict[Place, Path]:
        """Return the files of some tables staged so far, by the places they are to have."""
        found = {}
        for path in (each for name in tables for each in (self._staging / name).rglob("*.parquet")):
            place = Place.of(f"data/{path.relative_to(self._staging).as_posix()}")
            if place is not None and path.is_file():
                found[place] = path
        return found
