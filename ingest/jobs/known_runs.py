"""What a store holds of a model's checkpoints: asked before anything is loaded."""

import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import IngestError, StoreError, one_line
from ...schema.store import Store
from .request import Request
from .settings import Coactivation
from .summary import IngestReport

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
        self._run_steps: dict[tuple[str, str], dict[str, int | None]] = defaultdict(dict)
        for run in runs:
            self._run_steps[run["model"], run["revision"]][run["run_id"]] = run["step"]
        # A later row of a revision corrects its step.
        checkpoints = _rows(store.files("checkpoints"), ("model", "revision", "step", "listed_at"))
        checkpoints.sort(key=lambda row: row["listed_at"])
        self._listed_steps = {(row["model"], row["revision"]): row["step"] for row in checkpoints}

    def lists(self, model: str, revision: str, step: int | None) -> bool:
        """Return whether a revision is listed, and at this training step."""
        return ((model, revision), step) in self._listed_steps.items()

    def step(self, model: str, revision: str) -> int | None:
        """Return the training step that the store holds of a revision: its runs', else the one last listed."""
        known = (step for step in self._run_steps[model, revision].values() if step is not None)
        return next(known, self._listed_steps.get((model, revision)))

    def refusal(self, model: str, revision: str, step: int) -> str | None:
        """Return why a revision cannot be of a training step: a run has it at another, or without one. Else None."""
        for run_id, held in self._run_steps[model, revision].items():
            if held != step:
                found = "without a step" if held is None else f"at step {held}"
                return (
                    f"it cannot be step {step} of {model}: run {run_id} in {self._store.path} has it {found}; measure "
                    "the series under another --name"
                )
        return None

    def with_step(self, request: Request) -> Request:
        """Return a request with the training step that the store holds of its revision, unless it has one.

        Raises
        ------
        IngestError
            If it has one that its revision cannot be of.
        """
        model, revision = request.checkpoint.stored_name, request.checkpoint.stored_revision
        if request.step is None:
            return dataclasses.replace(request, step=self.step(model, revision))
        refusal = self.refusal(model, revision, request.step)
        if refusal is not None:
            raise IngestError(refusal)
        return request

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
            model=request.checkpoint.stored_name,
            revision=request.checkpoint.stored_revision,
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
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise StoreError(f"cannot read {path}: {one_line(error)}") from error
    return rows
