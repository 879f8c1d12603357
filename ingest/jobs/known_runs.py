"""What a store holds of a model's checkpoints: asked before anything is loaded."""

import dataclasses
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import IngestError
from ...schema.disk import store_errors
from ...schema.store import Store
from .reports import IngestReport
from .settings import Coactivation, Ingestion, Request

_COLUMNS = ("run_id", "model", "revision", "step", "request_id", "n_instances", "n_truncated", "n_dropped")


class KnownRuns:
    """The runs and the listed checkpoints of a store, which need not exist, as they are now."""

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
        """Return whether a revision is listed at this training step."""
        return ((model, revision), step) in self._listed_steps.items()

    def step(self, model: str, revision: str) -> int | None:
        """Return the training step that the store holds for a revision: that of its runs, else the last one listed."""
        known = (step for step in self._run_steps[model, revision].values() if step is not None)
        return next(known, self._listed_steps.get((model, revision)))

    def refusal(self, model: str, revision: str, step: int) -> str | None:
        """Return why a revision cannot have a training step, if a run has it at another or without one; else None."""
        for run_id, known in self._run_steps[model, revision].items():
            if known != step:
                other = "without a step" if known is None else f"at step {known}"
                return (
                    f"it cannot be step {step} of {model}: run {run_id} in {self._store.path} has it {other}; measure "
                    "the series under another --name"
                )
        return None

    def with_step(self, request: Request) -> Request:
        """Return a request with the training step that the store holds for its revision, unless it names one.

        Raises IngestError if its revision cannot have the step that it names (see `refusal`).
        """
        model, revision = request.checkpoint.stored_name, request.checkpoint.stored_revision
        if request.step is None:
            return dataclasses.replace(request, step=self.step(model, revision))
        if refusal := self.refusal(model, revision, request.step):
            raise IngestError(refusal)
        return request

    def report(self, request: Request, ingestion: Ingestion) -> IngestReport | None:
        """Return the report on a request of which the store holds the run and its coactivations; None if it may not."""
        coactivation = ingestion.coactivation
        fingerprint = request.checkpoint.locate().fingerprint() or request.commit
        request_id = request.identifier(corpus_sha256=ingestion.corpus.sha256, fingerprint=fingerprint)
        run = self._by_request.get(request_id)
        if run is None or (commit := self._store.commit(run["run_id"])) is None:
            return None
        if coactivation is not None and self._store.commit(coactivation.job_name(commit.job)) is None:
            return None
        if ingestion.lacking_controls(commit.job) or ingestion.lacking_additions(commit.job):
            return None
        n_rows = Counter[str]()
        for file in commit.files:
            n_rows[file.table] += file.n_rows
        return IngestReport(
            run_id=commit.job,
            model=request.checkpoint.stored_name,
            revision=request.checkpoint.stored_revision,
            is_new=False,
            n_layers=n_rows["layers"],
            n_neurons=n_rows["neurons"],
            n_functions=n_rows["run_functions"],
            **{name: run[name] for name in ("n_instances", "n_truncated", "n_dropped")},
            activity=None if coactivation is None else coactivation.activity,
        )


def lacks_coactivations(store: Store, run_id: str, coactivation: Coactivation | None, n_instances: int) -> bool:
    """Return whether coactivations are asked for that the store does not hold.

    Raises IngestError if the active share is less than one instance, or if the store holds the run's coactivations with
    another number of partners, so that the two would overlap.
    """
    if coactivation is None or store.commit(coactivation.job_name(run_id)) is not None:
        return False
    coactivation.n_highest(n_instances)
    files = [str(path) for path in store.files("coactivations")]
    if not files:
        return True
    same = [("run_id", "=", run_id), ("activity", "=", coactivation.activity)]
    neuron = ["stack", "layer", "neuron"]
    with store_errors(f"cannot read the coactivations of {store.path}", pa.ArrowException):
        stored = pq.read_table(files, columns=neuron, filters=same, partitioning=None)
    if len(stored):
        n_stored = max(stored.group_by(neuron).aggregate([([], "count_all")])["count_all"].to_pylist())
        raise IngestError(
            f"the store holds coactivations ({coactivation.activity}) of run {run_id} already, with up to "
            f"{n_stored} partners a neuron; {coactivation.n_partners} cannot stand beside them"
        )
    return True


def _rows(paths: tuple[Path, ...], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Read columns of small tables; files written before a column was declared lack it."""
    rows: list[dict[str, Any]] = []
    for path in paths:
        with store_errors(f"cannot read {path}", pa.ArrowException, UnicodeDecodeError), pq.ParquetFile(path) as file:
            present = [name for name in columns if name in file.schema_arrow.names]
            rows += file.read(columns=present).to_pylist()
    return rows
