"""A job: tables staged part by part, and then committed at once."""

import datetime
import itertools
import os
import random
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StoreError
from ..progress import LOGGER
from . import card, disk
from .commits import Commit, CommittedFile, commit_text, file_name, neuronlake_version, read_commit, read_commits
from .names import STAGING, Place, check_name, file_sha256, folder_name
from .tables import SCHEMA_VERSION, TABLES, table
from .vocabulary import JobKind

if TYPE_CHECKING:
    import pyarrow as pa

    from .store import Store


class Job:
    """Work in progress, made by `Store.job`: write tables part by part, then commit once."""

    def __init__(self, store: Path, name: str, kind: JobKind, staging: Path, *, is_locked: bool = True) -> None:
        self.name = name
        self.kind = kind
        self._is_locked = is_locked  # else other processes may do the same job
        self._store = store
        self._staging = staging

    def folder(self, name: str) -> Path:
        """Return a folder for files that the next attempt at the job goes on with. The commit removes it."""
        folder = self._staging / name
        with disk.store_errors(f"cannot write {folder}"):
            folder.mkdir(exist_ok=True)
        return folder

    @property
    def is_empty(self) -> bool:
        """Whether no part of any table is staged."""
        return not self._staged(*TABLES)

    def is_staged(self, name: str, part: int) -> bool:
        """Return whether part `part` of table `name` was staged completely, now or by an earlier attempt."""
        return any(place.part == part for place in self._staged(name))

    def drop_incomplete(self, *tables: str) -> None:
        """Remove what was staged of parts that some of these tables lack: an attempt was killed between two."""
        parts: dict[int, list[Path]] = defaultdict(list)
        for place, path in self._staged(*tables).items():
            parts[place.part].append(path)
        for path in itertools.chain(*(paths for paths in parts.values() if len(paths) < len(tables))):
            path.unlink()

    def staged(self, name: str) -> tuple[Path, ...]:
        """Return the staged files of table `name`, by folder and part."""
        return tuple(path for _, path in sorted(self._staged(name).items()))

    def write(
        self,
        name: str,
        data: "pa.Table",
        *,
        part: int = 0,  # number of the file within the job and table
        model: str | None = None,  # folders to put the file in, where the table has a model
        revision: str | None = None,
    ) -> None:
        """Stage rows of the table called `name`, as `conformance.conform` makes them, as one file; refuse others."""
        from . import conformance, parquet

        declared = table(name)
        conformance.check(declared, data)
        folders = {what: value for what, value in (("model", model), ("revision", revision)) if value is not None}
        for what, value in folders.items():
            check_name(what, value)
        file = f"{folder_name(self.name)}-{part}.parquet"
        path = self._staging.joinpath(name, *map(folder_name, folders.values()), file)
        partial = path.with_suffix(".partial")
        with disk.store_errors(f"cannot write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = {"job": self.name, "neuronlake_version": neuronlake_version()}
            parquet.write(declared, data, partial, metadata=metadata)
            disk.sync(partial)
            partial.replace(path)

    def commit(self, *, committed_at: str | None = None) -> Commit:
        """Make everything staged visible at once and return the commit; nothing if the disk refuses (`StoreError`).

        `committed_at` is the time that the commit states, by default now. On a disk without locks another process may
        have committed the job meanwhile: then its commit stands and is returned, and what is staged here is removed.
        """
        with disk.store_errors(f"cannot write the store {self._store}"):
            files = self._described()
        time = committed_at or datetime.datetime.now(datetime.UTC).isoformat()
        committed = tuple(files.values())
        return self._publish(Commit(self.name, self.kind, SCHEMA_VERSION, neuronlake_version(), time, committed), files)

    def commit_copy(self, commit: Commit, source: "Store") -> None:
        """Copy the files that this job has in another store and commit them as there; one altered is a `StoreError`."""
        files = {}
        for file in commit.files:
            staged = self._staging / file.path.removeprefix("data/")
            source.copy(file, staged)  # and compare with their digests the bytes that are committed
            with disk.store_errors(f"cannot write the store {self._store}"):
                disk.sync(staged)
            files[staged] = file
        self._publish(commit, files)

    def _publish(self, commit: Commit, files: Mapping[Path, CommittedFile]) -> Commit:
        """Move staged files into place, and then write the commit that names them; return the commit that stands."""
        store, staging = self._store, self._staging
        with disk.store_errors(f"cannot write the store {store}"):
            for staged, file in files.items():
                target = store / file.path
                disk.make_folder(target.parent)
                try:
                    # On a disk without locks nothing is replaced, and another process may have put the same there.
                    staged.replace(target) if self._is_locked else os.link(staged, target)
                except FileExistsError:
                    if file_sha256(target) != file.sha256:
                        raise
                disk.sync(target.parent)
            disk.make_folder(store / "commits")
            # The card first: if it cannot be written, nothing is committed. One at a time, so that no job's card
            # lacks what another commits meanwhile.
            with disk.locked(store / STAGING, is_needed=self._is_locked):
                self._write_card((*read_commits(store)[0], commit))
                place, text = store / "commits" / file_name(self.name), commit_text(commit)
                is_ours = disk.create_text(place, text, staging / "commit.json", is_locked=self._is_locked)
                if not self._is_locked:
                    if not is_ours:
                        commit = self._yield_to(files)
                    commits = None
                    while commits != (now := read_commits(store)[0]):  # until nobody has committed meanwhile
                        commits = now
                        self._write_card(commits)
                shutil.rmtree(staging, ignore_errors=True)
        LOGGER.debug("committed %s in %s: %s", self.name, store, ", ".join(file.path for file in commit.files))
        return commit

    def _write_card(self, commits: Sequence[Commit]) -> None:
        disk.replace_text(self._store / "README.md", card.text(commits), self._staging / "card.md")

    def _yield_to(self, files: Mapping[Path, CommittedFile]) -> Commit:
        """Remove the files of this attempt where another process has committed the job; return its commit."""
        commit = read_commit(self._store, self.name)
        if commit is None:
            raise StoreError(f"{self.name} was committed in {self._store} by another process and then removed")
        for path in {file.path for file in files.values()} - {file.path for file in commit.files}:
            (self._store / path).unlink(missing_ok=True)
        return commit

    def _described(self) -> dict[Path, CommittedFile]:
        """Return the commit's entry of every staged file, by folder and part."""
        from . import parquet

        # Without locks another process may be about to commit the job, in files that must have other names.
        first = 0 if self._is_locked else random.randrange(1, 10_000) * 100_000
        files = {}
        for place, staged in sorted(self._staged(*TABLES).items()):
            path = f"{place.folder}/{place.job}-{first + place.part}.parquet"
            n_rows, size_bytes = parquet.n_rows(staged), staged.stat().st_size
            files[staged] = CommittedFile(path, place.table, n_rows, size_bytes, file_sha256(staged))
        return files

    def _staged(self, *tables: str) -> dict[Place, Path]:
        """Return the files of some tables staged so far, by the places they will have."""
        paths = (path for name in tables for path in (self._staging / name).rglob("*.parquet") if path.is_file())
        places = ((Place.of(f"data/{path.relative_to(self._staging).as_posix()}"), path) for path in paths)
        return {place: path for place, path in places if place is not None}
