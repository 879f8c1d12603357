"""Carrying a store to an object store or a dataset of the Hub, and back: only what is missing travels."""

import contextlib
import hashlib
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import StoreError, one_line
from ..ingest.models.checkpoint import hub_errors
from ..progress import Progress, SilentProgress
from ..schema import card
from ..schema.commits import Commit, CommittedFile, commit_text, file_name, parse_commit
from ..schema.store import Store
from ..schema.stores.reading import INDEX
from ..schema.stores.remote import RemoteStore, repository
from ..schema.stores.union import Place, open_store

_ATTEMPTS = 5  # at a commit of a Hub dataset that others write meanwhile


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What `push_store` or `pull_store` carried: what was missing, and is there now."""

    n_jobs: int
    n_files: int
    size_bytes: int
    n_known: int  # jobs that were there already

    @classmethod
    def of(cls, missing: Sequence[Commit], n_known: int) -> "TransferReport":
        """Return what was carried of jobs that were missing."""
        n_files = sum(len(commit.files) for commit in missing)
        return cls(len(missing), n_files, sum(commit.size_bytes for commit in missing), n_known)

    def describe(self) -> str:
        """Return what was carried as one line."""
        line = f"{self.n_jobs:,} jobs, {self.n_files:,} files, {self.size_bytes:,} bytes"
        return f"{line}; {self.n_known:,} jobs were there already"


def push_store(store: str | os.PathLike[str], url: str, *, progress: Progress | None = None) -> TransferReport:
    """Add the jobs of a store that are missing at a URL.

    Of each job its files go first and its commit last, and what is there is never replaced: whoever reads meanwhile
    sees whole jobs, a push that was stopped goes on, and of two that push at once neither loses anything.

    Parameters
    ----------
    store, progress
        The store's folder, and where to report.
    url
        ``s3://BUCKET/…``, or ``hf://datasets/OWNER/NAME``, a dataset repository that exists.

    Raises
    ------
    StoreError
        If the store cannot be read or the URL not be written, or a job is there with other content.

    Examples
    --------
    >>> neuronlake.push_store("neuronlake-store", "s3://lab/neurons").n_jobs  # doctest: +SKIP
    4
    """
    source, shown = Store(store), progress or SilentProgress()
    source.require()
    target = RemoteStore(url)
    if target.scheme not in ("s3", "hf"):
        raise StoreError(f"cannot write {url}: s3:// and hf://datasets/ can be written to")
    push = _push_to_hub if target.scheme == "hf" else _push_objects
    return TransferReport.of(*push(source, target, shown))


def pull_store(url: Place, store: str | os.PathLike[str], *, progress: Progress | None = None) -> TransferReport:
    """Add the jobs of another store that a store lacks: the same files, byte by byte, under the same commits.

    Parameters
    ----------
    url
        The other store: a URL (``http(s)://…``, ``s3://…``, ``hf://datasets/OWNER/NAME``), a folder, or a pack in one
        file, which is so unpacked.
    store, progress
        The store's folder, which is made if it is not there, and where to report.

    Raises
    ------
    StoreError
        If it cannot be read or the store not be written, a file is not what was committed, or the store holds a
        job with other content. What was pulled before stays.

    Examples
    --------
    >>> neuronlake.pull_store("hf://datasets/OWNER/NAME", "neuronlake-store").n_jobs  # doctest: +SKIP
    4
    """
    source, target, shown = open_store(url), Store(store), progress or SilentProgress()
    source.require()
    if target.path.suffix == ".zip" and not target.path.is_dir():
        raise StoreError(f"cannot write {target}: what is pulled is a folder, and 'share pack' makes one file of it")
    missing, n_known = _missing(source, target, shown, "pulling")
    for commit in missing:
        target.add_copy(commit, source)
        shown.advance(commit.size_bytes)
    return TransferReport.of(missing, n_known)


@contextlib.contextmanager
def at_hand(store: Place) -> Iterator[Store]:
    """Yield a store as a folder: for a while that of a copy where it is in one file, at a URL, or several."""
    opened = open_store(store)
    if not opened.is_read_only:
        yield opened
        return
    with tempfile.TemporaryDirectory(prefix="neuronlake-") as folder:
        copy = Path(folder) / Path(str(opened)).name
        copy.mkdir()
        pull_store(opened, copy)
        yield Store(copy)


def _missing(source: Store, target: Store, shown: Progress, phase: str) -> tuple[list[Commit], int]:
    """Return the jobs that the target lacks, and how many it has; a job of other content is a `StoreError`."""
    commits, there = source.commits(), {commit.job: commit for commit in target.commits()}
    missing = [commit for commit in commits if commit.job not in there]
    for commit in commits:
        if _content(commit) != _content(there.get(commit.job, commit)):
            remedy = "'neuronlake share merge' takes what differs in texts or rounding alone"
            raise StoreError(
                f"job {commit.job} of {source} is another than that of {target}: their files differ; {remedy}"
            )
    shown.phase(phase, total=sum(commit.size_bytes for commit in missing), unit="bytes")
    return missing, len(commits) - len(missing)


def _content(commit: Commit) -> list[tuple[str, str]]:
    """Return what tells a job's content; not the names of its files: without locks, the numbers in them are random."""
    return sorted((file.table, file.sha256) for file in commit.files)


def _push_objects(source: Store, target: RemoteStore, shown: Progress) -> tuple[list[Commit], int]:
    missing, n_known = _missing(source, target, shown, "pushing")
    for commit in missing:
        for file in commit.files:
            with source.locate(file).open("rb") as opened:  # mapped, for only what is put at once can be refused
                data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            _create(target, file.path, data, file)
            shown.advance(file.size_bytes)
        _create(target, f"commits/{file_name(commit.job)}", commit_text(commit).encode(), None)
    return missing, n_known


def _create(target: RemoteStore, path: str, data: bytes | mmap.mmap, file: CommittedFile | None) -> None:
    """Write an object that is not there; what another push has written meanwhile must be the same."""
    import obstore

    try:
        obstore.put(target.objects, path, data, mode="create")
    except obstore.exceptions.AlreadyExistsError as error:
        found = target.read(path)
        if file:
            is_same = hashlib.sha256(found).hexdigest() == file.sha256
        else:
            is_same = parse_commit(found).files == parse_commit(bytes(data)).files
        if not is_same:
            raise StoreError(f"{target}/{path} is there with other content") from error
    except (OSError, obstore.exceptions.BaseError) as error:
        raise StoreError(f"cannot write {target}/{path}: {one_line(error)[:200]}") from error


def _push_to_hub(source: Store, target: RemoteStore, shown: Progress) -> tuple[list[Commit], int]:
    """Add all that is missing as one commit of the repository, anew where another was made meanwhile."""
    from huggingface_hub import CommitOperationAdd, HfApi

    name, revision = repository(target.name)
    api = HfApi()
    for attempt in range(_ATTEMPTS):
        try:
            head = api.dataset_info(name, revision=revision)
            there = {file.rfilename for file in head.siblings or ()}
            if INDEX not in there and any(path.startswith("commits/") for path in there):
                raise StoreError(f"{target} holds commits without {INDEX}, which 'neuronlake share pack' writes")
            target.refresh(None if INDEX in there else ())  # a new dataset holds nothing yet
            missing, n_known = _missing(source, target, shown, "pushing")
            if not missing:
                return missing, n_known
            commits = (*target.commits(), *missing)
            files = [file for commit in missing for file in commit.files]
            operations = [CommitOperationAdd(file.path, str(source.locate(file))) for file in files]
            texts = {f"commits/{file_name(commit.job)}": commit_text(commit).encode() for commit in missing}
            texts |= {INDEX: commit_text(commits).encode(), "README.md": card.text(commits).encode()}
            operations += [CommitOperationAdd(path, text) for path, text in texts.items()]
            api.create_commit(
                name,
                operations,
                repo_type="dataset",
                revision=revision,
                parent_commit=head.sha,
                commit_message=f"{len(missing)} jobs of neuronlake",
            )
            shown.advance(sum(commit.size_bytes for commit in missing))
            return missing, n_known
        except hub_errors() as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status not in (409, 412) or attempt == _ATTEMPTS - 1:  # others than that another came first
                raise StoreError(f"cannot write {target}: {one_line(error)[:200]}") from error
    raise AssertionError("the last attempt returns or raises")
