"""The series of a study: checkpoints of a model measured in the same way."""

from dataclasses import dataclass
from typing import Any

from ...errors import AnalysisError, UnknownNameError, check_known
from ...queries.database import Database
from ...schema.vocabulary import DType

# A change between two checkpoints needs a third to be later or earlier than.
_MIN_CHECKPOINTS = 3


@dataclass(frozen=True, slots=True)
class MeasuredCheckpoint:
    """One checkpoint of a series."""

    run_id: str
    revision: str
    step: int
    weights_sha256: str
    dtype: DType  # of the weights


@dataclass(frozen=True, slots=True)
class Series:
    """Checkpoints of a model that were measured in the same way."""

    model: str  # as stored
    corpus: str
    checkpoints: tuple[MeasuredCheckpoint, ...]  # in the order of their steps, one a step
    # Stack and index of each layer that the run of the last checkpoint measured: the decoder of an encoder-decoder is
    # measured only on texts with targets
    layers: tuple[tuple[str, int], ...]
    # Whether the store has the input norm and firing rate of each neuron of these layers at the last checkpoint
    has_norms: bool

    @property
    def last(self) -> MeasuredCheckpoint:
        """The last checkpoint, whose run names the series."""
        return self.checkpoints[-1]

    def twins(self) -> tuple[tuple[MeasuredCheckpoint, ...], ...]:
        """Return the groups of two or more checkpoints that have the same weights."""
        by_weights: dict[str, list[MeasuredCheckpoint]] = {}
        for checkpoint in self.checkpoints:
            by_weights.setdefault(checkpoint.weights_sha256, []).append(checkpoint)
        return tuple(tuple(twins) for twins in by_weights.values() if len(twins) > 1)


def find_series(database: Database, model: str, *, corpus: str | None = None, run: str | None = None) -> Series:
    """Return the only series of a stored model, among those of a corpus, and with a run whose id begins so, if given.

    Where several revisions have the same step and weights, it has the first by name.
    """
    candidates = database.ask("emergence_series", model=model).arrow().to_pylist()
    where = database.store
    if not candidates:
        query = "select model from runs where step is not null and measurement = 'measured' and not is_random_init"
        models = {str(row["model"]) for row in database.sql(query)}
        raise UnknownNameError("series of checkpoints of the model", model, models, where=where)
    if corpus is not None:
        corpora = {series["corpus"] for series in candidates}
        check_known("corpus", [corpus], corpora, where=f"the series of {model} in {where}")
        candidates = [series for series in candidates if series["corpus"] == corpus]
    if run is not None:
        with_run = [series for series in candidates if any(row["run_id"].startswith(run) for row in series["runs"])]
        if len(with_run) != 1:
            kind = "single series of a run" if with_run else "run of a series"
            raise UnknownNameError(kind, run, map(_described, with_run or candidates), where=where)
        candidates = with_run
    if len(candidates) > 1:
        chooses = "`corpus` or `run` chooses one" if corpus is None else "`run` chooses one"
        raise UnknownNameError("single series of", model, map(_described, candidates), where=f"{where} ({chooses})")
    checkpoints = _checkpoints(model, candidates[0])
    layers = database.ask("emergence_layers", run=checkpoints[-1].run_id).arrow().to_pylist()
    places = tuple((row["stack"], row["layer"]) for row in layers)
    return Series(model, candidates[0]["corpus"], checkpoints, places, all(row["has_norms"] for row in layers))


def _checkpoints(model: str, series: dict[str, Any]) -> tuple[MeasuredCheckpoint, ...]:
    """Return one checkpoint for each step; refuse a series of too few steps, or with different weights at one step."""
    checkpoints: dict[int, MeasuredCheckpoint] = {}
    for row in series["runs"]:
        first = checkpoints.setdefault(row["step"], MeasuredCheckpoint(**row, dtype=series["dtype"]))
        if row["weights_sha256"] != first.weights_sha256:
            problem = f"step {row['step']:,} of {model} is of several revisions, {first.revision} and {row['revision']}"
            remedy = "measure the series under another --name, with steps of your own (ingest --steps)"
            raise AnalysisError(f"{problem}, with other weights: {remedy}")
    if len(checkpoints) < _MIN_CHECKPOINTS:
        names = ", ".join(checkpoint.revision for checkpoint in checkpoints.values())
        problem = f"the series of {model} on {series['corpus']} has {len(checkpoints)} checkpoints with a known step"
        raise AnalysisError(f"{problem} ({names}); a study needs {_MIN_CHECKPOINTS}")
    return tuple(checkpoints.values())


def _described(series: dict[str, Any]) -> str:
    """Return a series as it is listed in an error: its last run, how it was measured, and how long it is."""
    n_checkpoints = len({row["step"] for row in series["runs"]})
    return f"{series['runs'][-1]['run_id']} ({series['measurement']}: {n_checkpoints} checkpoints)"
