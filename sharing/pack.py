"""Packs: a store, or a slice of it, as one file or a folder to publish, such as a dataset repository of the Hub."""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from ..errors import StoreError, plural
from ..queries.database import Database
from ..queries.quoting import literal
from ..schema import card, disk, parquet
from ..schema.commits import Commit, CommittedFile, commit_text, file_name
from ..schema.names import file_sha256
from ..schema.store import Store
from ..schema.stores.reading import INDEX
from ..schema.stores.remote import write_archive
from ..schema.stores.union import Place
from ..schema.tables import TABLES
from .jobs import Inventory, Job


@dataclass(frozen=True, slots=True)
class PackReport:
    """What `pack_store` wrote."""

    path: Path  # the pack's folder or file
    n_jobs: int
    n_files: int
    size_bytes: int
    run_ids: tuple[str, ...]  # the runs in it
    without_texts: bool  # whether the columns that hold texts of corpora were left out

    def describe(self) -> str:
        """Return what was written as one line."""
        texts = ", without the texts" if self.without_texts else ""
        runs = plural(len(self.run_ids), "run")
        return f"{self.path}: {runs}, {self.n_jobs:,} jobs, {self.n_files:,} files, {self.size_bytes:,} bytes{texts}"


def pack_store(
    store: Place,
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    revision: str | None = None,
    corpus: str | None = None,
    where: str | None = None,
    with_texts: bool = True,
) -> PackReport:
    """Copy a store, or a slice of it, into a folder or one file to publish; the store stays as it is.

    A slice is some runs with all that belongs to them: their corpora, control functions and coactivations, and the
    partitions, alignments and studies that refer to nothing outside the slice. So every view answers on the pack as on
    the store, asked about these runs. Files are copied byte by byte, under the same digests: the same store and slice
    make the same pack.

    Parameters
    ----------
    store
        The store's folder, a pack in one file, or a URL; several are packed as one.
    path
        The folder to make, or with the suffix ``.zip`` the file; it must not exist.
    model, revision, corpus
        The runs to take: those of this model, revision and corpus.
    where
        SQL of a condition on the columns of ``runs``, such as ``step >= 1000``.
    with_texts
        Whether to copy the texts of corpora. Without them, the columns that hold text are left out and read as NULL;
        digests of corpora and ids stay, so that whoever has the corpus can verify the runs.

    Raises
    ------
    StoreError, QueryError
        If the store cannot be read, the folder exists or cannot be written, or no run is chosen; if `where` is no
        condition.

    Examples
    --------
    >>> report = neuronlake.pack_store("neuronlake-store", "pack", model="tiny-bert", revision="main")
    >>> len(report.run_ids)
    1
    """
    target = Path(path)
    if target.exists() or target.is_symlink():
        raise StoreError(f"cannot write {target}: it exists; name one that does not")
    with Database(store) as database:
        source = database.store
        chosen = _chosen(database, {"model": model, "revision": revision, "corpus": corpus}, where)
        packed = _closed(Inventory(source).jobs, chosen)
        if not packed:
            raise StoreError(f"{source} holds nothing to pack")
        staging, archive = (target.with_name(f".{target.name}.{os.getpid()}{suffix}") for suffix in ("", ".zip"))
        try:
            with disk.store_errors(f"cannot write {target}"):
                commits = tuple(_copied(source, job.commit, staging, with_texts=with_texts) for job in packed)
                _describe(staging, commits, database)
                if target.suffix == ".zip":
                    write_archive(staging, archive)
                (archive if target.suffix == ".zip" else staging).replace(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            archive.unlink(missing_ok=True)
    n_files, size_bytes = sum(len(commit.files) for commit in commits), sum(commit.size_bytes for commit in commits)
    return PackReport(target, len(commits), n_files, size_bytes, tuple(chosen), not with_texts)


def _chosen(database: Database, keys: dict[str, str | None], where: str | None) -> list[str]:
    conditions = [f"{name} = {literal(value)}" for name, value in keys.items() if value is not None]
    conditions += [f"({where})"] if where else []
    query = f"select run_id from runs where {' and '.join(conditions) or 'true'} order by run_id"
    chosen = [str(run_id) for (run_id,) in database.sql(query).rows()]
    if not chosen and conditions:
        raise StoreError(f"no run of {database.store} fits {' and '.join(conditions)}; the table runs lists all")
    return chosen


def _closed(every: Sequence[Job], run_ids: Sequence[str]) -> list[Job]:
    """Return the jobs of a slice: of these runs, what they refer to, and what refers to nothing else."""
    runs = {("run_id", run_id) for run_id in run_ids}
    taken = [job for job in every if job.makes & runs]
    if len(run_ids) == sum(any(name == "run_id" for name, _ in job.makes) for job in every):
        return list(every)
    checkpoints = {checkpoint for job in taken for checkpoint in job.checkpoints}
    referred = {key for job in taken for key in job.refers}
    candidates = [job for job in every if job.checkpoints <= checkpoints]
    candidates = [job for job in candidates if job.checkpoints or job.commit.kind == "merge"]
    more = [job for job in every if job not in taken and job.makes & referred]
    while True:
        taken += more
        made = {key for job in taken for key in job.makes}
        more = [job for job in candidates if job not in taken and job.refers <= made]
        if not more:
            return [job for job in every if job in taken]


def _copied(source: Store, commit: Commit, staging: Path, *, with_texts: bool) -> Commit:
    """Copy the files of a job and write its commit; raise if one of them is not what was committed."""
    files = []
    for file in commit.files:
        path = staging / file.path
        source.copy(file, path)
        texts = [] if with_texts else [column.name for column in TABLES[file.table].columns if column.holds_text]
        files.append(_without(file, path, texts) if texts else file)
    packed = msgspec.structs.replace(commit, files=tuple(files))
    disk.make_folder(staging / "commits")
    (staging / "commits" / file_name(commit.job)).write_text(commit_text(packed), encoding="utf-8")
    return packed


def _without(file: CommittedFile, path: Path, columns: list[str]) -> CommittedFile:
    """Write a file anew without some columns, and return its entry."""
    with pq.ParquetFile(path) as parquet_file:
        described = parquet_file.metadata.metadata or {}
        data = parquet_file.read()
    metadata = {key.decode(): value.decode() for key, value in described.items() if b"column " not in key}
    there = [name for name in columns if name in data.column_names]  # an older file, or one packed before, lacks some
    parquet.write(TABLES[file.table], data.drop_columns(there), path, metadata=metadata)
    return msgspec.structs.replace(file, size_bytes=path.stat().st_size, sha256=file_sha256(path))


def _describe(staging: Path, commits: tuple[Commit, ...], database: Database) -> None:
    """Write the index of commits, the card and the Croissant description."""
    jobs = [commit.job for commit in commits]

    def distinct(expression: str, table: str, job: str) -> tuple[str, ...]:
        query = f"select distinct {expression} as each from {table} where list_contains($jobs, {job})"
        rows = database.sql(f"from ({query}) where each is not null order by each", {"jobs": jobs}).rows()
        return tuple(str(value) for (value,) in rows)

    facts = card.Facts(
        models=distinct("model", "runs", "run_id"),
        corpora=distinct("corpus || coalesce(': ' || description, '')", "corpora", "'corpus-' || corpus"),
        licences=distinct("licence", "corpora", "'corpus-' || corpus"),
    )
    described = json.dumps(croissant(commits, facts), indent=1, ensure_ascii=False) + "\n"
    texts = {INDEX: commit_text(commits), "README.md": card.text(commits, facts), "croissant.json": described}
    for name, text in texts.items():
        (staging / name).write_text(text, encoding="utf-8")


_CONTEXT = json.loads(Path(__file__).with_name("croissant_context.json").read_text(encoding="utf-8"))
_PARQUET = {"encodingFormat": "application/x-parquet"}
_TYPES = {
    "bool": "sc:Boolean",
    "string": "sc:Text",
    "timestamp": "sc:DateTime",
    **dict.fromkeys(("float32", "float64"), "sc:Float"),
    **dict.fromkeys(("int16", "int32", "int64"), "sc:Integer"),
}


def croissant(commits: Sequence[Commit], facts: card.Facts) -> dict[str, object]:
    """Return the JSON-LD of a pack with these commits: every file with its digest, every table with its columns."""
    files: dict[str, list[CommittedFile]] = defaultdict(list)
    for commit in commits:
        for file in commit.files:
            files[file.table].append(file)
    tables = [table for table in TABLES.values() if files[table.name]]
    records = []
    distribution = [
        _node("FileObject", file.path, contentUrl=file.path, contentSize=f"{file.size_bytes} B", sha256=file.sha256)
        | _PARQUET
        for table in tables
        for file in files[table.name]
    ]
    for table in tables:
        of_files, pattern = f"{table.name}-files", f"data/{table.name}/**/*.parquet"
        parts = [{"@id": file.path} for file in files[table.name]]
        distribution.append(_node("FileSet", of_files, containedIn=parts, includes=pattern) | _PARQUET)
        fields = []
        for column in table.columns:
            source = {"fileSet": {"@id": of_files}, "extract": {"column": column.name}}
            typed = {"dataType": _TYPES[column.type], "source": source}
            fields.append(_node("Field", f"{table.name}/{column.name}", description=column.description, **typed))
        key = [{"@id": f"{table.name}/{name}"} for name in table.grain]
        records.append(_node("RecordSet", table.name, description=table.description, key=key, field=fields))
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "neuronlake-store",
        "description": f"What single neurons of {', '.join(facts.models) or 'transformers'} respond to, as tables.",
        "datePublished": max((commit.committed_at for commit in commits), default="")[:10],
        "version": "1.0.0",
        "citeAs": "neuronlake (CITATION.cff in its repository), and the models and corpora named in the card",
        **({"license": list(facts.licences)} if facts.licences else {}),
        "url": "https://huggingface.co/datasets",
        "distribution": distribution,
        "recordSet": records,
    }


def _node(kind: str, name: str, **properties: object) -> dict[str, object]:
    return {"@type": f"cr:{kind}", "@id": name, "name": name, **properties}
