"""The series of a study: checkpoints of a model that were measured in the same way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from ...errors import AnalysisError, UnknownNameError
from ...queries.database import Database
from ...schema.vocabulary import DType

__all__ = ["MeasuredCheckpoint", "Series", "find_series"]

# Runs that agree in these measured the same thing of each checkpoint.
_MEASUREMENT = ("corpus", "corpus_sha256", "site", "pooling", "router", "dtype", "storage", "max_tokens", "layers")
# A change between two checkpoints needs a third to be later or earlier than.
_MIN_CHECKPOINTS = 3


@dataclass(frozen=True, slots=True)
class MeasuredCheckpoint:
    """One checkpoint of a series: its run, its name and training step, and the weights that were measured.

    Parameters
    ----------
    run_id
        The run.
    revision, step
        Name and training step of the checkpoint.
    weights_sha256
        Digest of the weights.
    dtype
        Floating-point type of the weights.
    """

    run_id: str
    revision: str
    step: int
    weights_sha256: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Series:
    """Checkpoints of a model that were measured in the same way.

    Parameters
    ----------
    model
        The model, as stored.
    corpus
        Corpus of the measurements.
    checkpoints
        The checkpoints in the order of their steps, one a step.
    layers
        Stack and index of each layer that the run of the last checkpoint measured: the decoder of an encoder-decoder
        is measured only on texts with targets.
    has_norms
        Whether the store has the input norm and firing rate of each neuron of these layers at the last checkpoint.
    """

    model: str
    corpus: str
    checkpoints: tuple[MeasuredCheckpoint, ...]
    layers: tuple[tuple[str, int], ...]
    has_norms: bool

    @property
    def last(self) -> MeasuredCheckpoint:
        """The last checkpoint, whose run names the series."""
        return self.checkpoints[-1]

    def twins(self) -> tuple[tuple[MeasuredCheckpoint, ...], ...]:
        """Return the groups of checkpoints that have one and the same weights."""
        by_weights: dict[str, list[MeasuredCheckpoint]] = {}
        for checkpoint in self.checkpoints:
            by_weights.setdefault(checkpoint.weights_sha256, []).append(checkpoint)
        return tuple(tuple(twins) for twins in by_weights.values() if len(twins) > 1)


def find_series(database: Database, model: str, *, corpus: str | None = None, run: str | None = None) -> Series:
    """Return the one series of a stored model that the corpus and run leave.

    A series is, as in the view ``checkpoint_stability``, the measured runs of trained weights that have a known step
    and the same corpus and settings. Where several revisions have the same step and weights, it has the first by name.

    Parameters
    ----------
    database
        The store's database.
    model
        The model, as stored.
    corpus
        Corpus of the series, if the model has series on several.
    run
        Beginning of the id of any run of the series, if the corpus has several series.

    Raises
    ------
    UnknownNameError
        If there is no such model, corpus or run, or several series where one was meant; listing them.
    AnalysisError
        If the series has fewer than three checkpoints, or other weights of one step, as of two stages of training.
    """
    query = (
        "select * from runs where model = ? and step is not null and measurement = 'measured' and not is_random_init "
        "order by step, revision, run_id"
    )
    rows = database.sql(query, [model]).arrow().to_pylist()
    where = database.store.path
    if not rows:
        models = [row["model"] for row in database.sql("select distinct model from runs where step is not null")]
        raise UnknownNameError("series of checkpoints of the model", model, map(str, models), where=where)
    groups: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in _MEASUREMENT), []).append(row)
    candidates = list(groups.values())
    if corpus is not None:
        candidates = [runs for runs in candidates if runs[0]["corpus"] == corpus]
        if not candidates:
            corpora = {str(row["corpus"]) for row in rows}
            raise UnknownNameError("corpus", corpus, corpora, where=f"the series of {model} in {where}")
    if run is not None:
        with_run = [runs for runs in candidates if any(str(row["run_id"]).startswith(run) for row in runs)]
        if len(with_run) != 1:
            kind = "single series of a run" if with_run else "run of a series"
            raise UnknownNameError(kind, run, map(_described, with_run or candidates), where=where)
        candidates = with_run
    if len(candidates) > 1:
        chooses = "`corpus` or `run` chooses one" if corpus is None else "`run` chooses one"
        raise UnknownNameError("single series of", model, map(_described, candidates), where=f"{where} ({chooses})")
    checkpoints = _checkpoints(candidates[0])
    layers, has_norms = _measured(database, checkpoints[-1].run_id)
    return Series(model, str(candidates[0][0]["corpus"]), checkpoints, layers, has_norms)


def _checkpoints(runs: Sequence[dict[str, Any]]) -> tuple[MeasuredCheckpoint, ...]:
    """Return one checkpoint a step, or refuse runs of too few steps or of other weights at one step."""
    model, corpus = runs[0]["model"], runs[0]["corpus"]
    first_of_step = {row["step"]: row for row in reversed(runs)}
    for row in runs:
        first = first_of_step[row["step"]]
        if row["weights_sha256"] != first["weights_sha256"]:
            raise AnalysisError(
                f"step {row['step']:,} of {model} is of several revisions, {first['revision']} and {row['revision']}, "
                "with other weights: measure the series under another --name, with steps of your own (ingest --steps)"
            )
    checkpoints = tuple(
        MeasuredCheckpoint(
            row["run_id"], row["revision"], row["step"], row["weights_sha256"], cast("DType", row["dtype"])
        )
        for _, row in sorted(first_of_step.items())
    )
    if len(checkpoints) < _MIN_CHECKPOINTS:
        names = ", ".join(checkpoint.revision for checkpoint in checkpoints)
        raise AnalysisError(
            f"the series of {model} on {corpus} has {len(checkpoints)} checkpoints with a known step ({names}); "
            f"a study needs {_MIN_CHECKPOINTS}"
        )
    return checkpoints


def _measured(database: Database, run_id: str) -> tuple[tuple[tuple[str, int], ...], bool]:
    """Return the layers that a run measured, and whether the store has norm and firing rate of all their neurons."""
    query = "select stack, layer, n_neurons from layers where run_id = ? order by all"
    layers = database.sql(query, [run_id]).arrow().to_pylist()
    # A store may hold a run without its neurons.
    query = "select count(*) from neurons where run_id = ? and isfinite(input_norm) and isfinite(firing_rate)"
    ((n_known,),) = database.sql(query, [run_id]).rows()
    return tuple((row["stack"], row["layer"]) for row in layers), n_known == sum(row["n_neurons"] for row in layers)


def _described(rows: Sequence[dict[str, Any]]) -> str:
    """Return a series as it is listed in an error: its last run, how it was measured, and how long it is."""
    last = rows[-1]
    shown = [str(last[name]) for name in _MEASUREMENT if name != "corpus_sha256" and last[name] is not None]
    n_checkpoints = len({row["step"] for row in rows})
    return f"{last['run_id']} ({', '.join(shown)}: {n_checkpoints} checkpoints)"
