"""What a store holds of a model's checkpoints: asked before anything is loaded."""

import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import StoreError, one_line
from ..schema.store import Store
from .coactivation import Coactivation
from .report import IngestReport
from .request import Request

__all__ = ["HeldRuns"]

_COLUMNS = ("run_id", "model", "revision", "step", "request_id", "n_instances", "n_truncated", "n_dropped")


class HeldRuns:
    """The runs and the listed checkpoints of a store, as they stood when this was made: hundreds are read in a moment.

    Parameters
    ----------
    store
        The store; it need not exist.

    Raises
    ------
    StoreError
        If a file of it cannot be read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        runs = _rows(store.files("runs"), _COLUMNS)
        self._by_request = {run["request_id"]: run for run in runs if run.get("request_id") is not None}
        checkpoints = _rows(store.files("checkpoints"), ("model", "revision", "step"))
        self._listed = {(row["model"], row["revision"]) for row in checkpoints}
        # What is listed goes before what was measured.
        self._steps: dict[tuple[str, str], list[tuple[int | None, str]]] = defaultdict(list)
        for row in checkpoints:
            self._steps[row["model"], row["revision"]].append((row["step"], "its list of checkpoints"))
        for row in runs:
            self._steps[row["model"], row["revision"]].append((row["step"], f"run {row['run_id']}"))

    def is_listed(self, model: str, revision: str) -> bool:
        """Return whether a revision is among the listed checkpoints."""
        return (model, revision) in self._listed

    def steps(self, model: str, revision: str) -> tuple[tuple[int | None, str], ...]:
        """Return the training steps that the store holds of a revision, each with what holds it."""
        return tuple(self._steps.get((model, revision), ()))

    def with_step(self, request: Request) -> Request:
        """Return a request with the training step that the store holds of its revision, unless it has one."""
        steps = [step for step, _ in self.steps(request.stored_name, request.stored_revision) if step is not None]
        if request.step is not None or not steps:
            return request
        return dataclasses.replace(request, step=steps[0])

    def report(self, request: Request, corpus_sha256: str, coactivation: Coactivation | None) -> IngestReport | None:
        """Return the report of a request of which nothing is left to do, None if something may be.

        Raises
        ------
        IngestError, UnknownNameError
            If the checkpoint is not there.
        StoreError
            If a commit cannot be read.
        """
        request_id = request.identifier(corpus_sha256=corpus_sha256, fingerprint=request.fingerprint())
        run = self._by_request.get(request_id)
        commit = None if run is None else self._store.commit(run["run_id"])
        if run is None or commit is None:
            return None
        if coactivation is not None and self._store.commit(coactivation.job_name(commit.job)) is None:
            return None
        n_rows = dict.fromkeys(("layers", "neurons", "run_functions"), 0)
        for file in commit.files:
            if file.table in n_rows:
                n_rows[file.table] += file.n_rows
        return IngestReport(
            run_id=commit.job,
            model=request.stored_name,
            revision=request.stored_revision,
            is_new=False,
            n_layers=n_rows["layers"],
            n_neurons=n_rows["neurons"],
            n_functions=n_rows["run_functions"],
            n_instances=run["n_instances"],
            n_truncated=run["n_truncated"],
            n_dropped=run["n_dropped"],
            duration_s=0.0,
            activity=None if coactivation is None else coactivation.activity,
        )


def _rows(paths: tuple[Path, ...], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Read columns of small tables; files written before a column was declared lack it."""
    rows: list[dict[str, Any]] = []
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                held = [name for name in columns if name in file.schema_arrow.names]
                rows += file.read(columns=held).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"cannot read {path}: {one_line(error)}") from error
    return rows
