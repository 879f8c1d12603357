"""Runs and partitions of a store, found by what people type: the beginning of an id, or a model."""

from collections import Counter
from dataclasses import dataclass, fields
from typing import TypeVar

from ..errors import AnalysisError, UnknownNameError, check_known
from ..queries.database import Database
from ..schema.vocabulary import DType


@dataclass(frozen=True, slots=True)
class Run:
    """A row of the table ``runs``: a measurement of a checkpoint, or imported scores."""

    run_id: str
    model: str
    revision: str
    step: int | None
    measurement: str  # ``measured`` or ``imported``
    # What was measured, and how; None of imported scores
    corpus: str | None
    site: str | None
    pooling: str | None
    special_tokens: str | None
    halves: str | None
    min_instances: int | None
    max_tokens: int | None
    dtype: DType | None
    weights_sha256: str | None
    source: str | None  # the file that scores were imported from; None of a measurement

    def __str__(self) -> str:
        """Return the run as an error lists it."""
        max_tokens = None if self.max_tokens is None else f"max_tokens {self.max_tokens}"
        return f"{self.run_id} ({_joined(self.model, self.revision, self.settings, max_tokens)})"

    @property
    def settings(self) -> str:
        """Return corpus and settings as a line; of those added later what is not the default."""
        special_tokens = "special tokens kept" if self.special_tokens == "keep" else None
        halves = "halves by word" if self.halves == "word" else None
        least = f"min_instances {self.min_instances}" if self.min_instances else None
        return _joined(self.corpus, self.site, self.pooling, special_tokens, halves, least)


@dataclass(frozen=True, slots=True)
class Partition:
    """A row of the table ``partitions``."""

    partition_id: str
    model: str
    revision: str
    method: str  # how its experts were made
    n_experts: int  # in a layer, at most
    half: str | None  # the half of the instances that it is made of the scores of, NULL without scores

    def __str__(self) -> str:
        """Return the partition as an error lists it."""
        return f"{self.partition_id} ({_joined(self.model, self.revision, self.method, str(self.n_experts))})"


_Row = TypeVar("_Row", Run, Partition)


def find_run(
    database: Database, prefix: str | None, model: str, *, revision: str | None = None, is_any: bool = False
) -> Run:
    """Return the run of a stored model whose id begins with `prefix`, or the model's only run if `prefix` is None.

    Without `revision`, `prefix` may name a run of any revision; without both, the revision is ``main`` if the model has
    it, and else its only one. With `is_any`, several runs are no error: the one that measured most layers is returned.
    """
    if prefix is not None:
        run = starting_with(database, Run, prefix)
        if run.model != model or revision not in (None, run.revision):
            wanted = " ".join(filter(None, (model, revision)))
            raise AnalysisError(f"run {run.run_id} is of {run.model} {run.revision}, not of {wanted}")
        return run
    where, stored = database.store, stored_rows(database, Run)
    check_known("model", [model], {run.model for run in stored}, where=where)
    revisions = {run.revision for run in stored if run.model == model}
    if revision is None and "main" in revisions:
        revision = "main"
    check_known("revision", [] if revision is None else [revision], revisions, where=f"{model} in {where}")
    runs = [run for run in stored if run.model == model and revision in (None, run.revision)]
    if is_any and len({run.revision for run in runs}) == 1:
        n_layers = Counter(run_id for (run_id,) in database.sql("select run_id from layers").rows())
        return max(runs, key=lambda run: n_layers[run.run_id])
    if len(runs) > 1:
        wanted = " ".join(filter(None, (model, revision)))
        raise UnknownNameError("single run", wanted, map(str, runs), where=f"{where} (`run` chooses one)")
    return runs[0]


def starting_with(database: Database, row_type: type[_Row], prefix: str) -> _Row:
    """Return the run or partition whose id begins with `prefix`; if not exactly one does, raise `UnknownNameError`."""
    rows, kind = stored_rows(database, row_type), row_type.__name__.lower()
    matches = [row for row in rows if getattr(row, f"{kind}_id").startswith(prefix)]
    if len(matches) == 1:
        return matches[0]
    raise UnknownNameError("single " * bool(matches) + kind, prefix, map(str, matches or rows), where=database.store)


def stored_rows(database: Database, row_type: type[_Row]) -> list[_Row]:
    """Return the runs or partitions of a store, by id."""
    columns = ", ".join(field.name for field in fields(row_type))
    rows = database.sql(f"select {columns} from {row_type.__name__.lower()}s order by 1").arrow()
    return [row_type(**row) for row in rows.to_pylist()]


def _joined(*values: str | None) -> str:
    return ", ".join(value for value in values if value)
