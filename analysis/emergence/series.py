"""The series of a study: the checkpoints of a model that were measured alike."""

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
    """One checkpoint of a series.

    Parameters
    ----------
    run_id
        Its run.
    revision, step
        What it is called, and its training step.
    weights_sha256
        Digest of the weights that were measured.
    dtype
        Floating-point type in which they were.
    """

    run_id: str
    revision: str
    step: int
    weights_sha256: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Series:
    """Checkpoints of a model in the order of their steps, one a step.

    Parameters
    ----------
    model
        The model, as stored.
    corpus
        What was measured on.
    checkpoints
        The checkpoints.
    layers
        Stack and index of each layer that the run of the last checkpoint measured: the decoder of an encoder-decoder
        is measured only on texts with targets.
    has_norms
        Whether the store has the input norm and firing rate, at the last checkpoint, of each neuron of these.
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
        """Return the checkpoints that have one and the same weights, together."""
        found: dict[str, list[MeasuredCheckpoint]] = {}
        for each in self.checkpoints:
            found.setdefault(each.weights_sha256, []).append(each)
        return tuple(tuple(each) for each in found.values() if len(each) > 1)


def find_series(database: Database, model: str, *, corpus: str | None = None, run: str | None = None) -> Series:
    """Return the one series of a stored model.

    A series is, as in the view ``checkpoint_stability``, the measured runs of trained weights whose step is known and
    that measured the same in the same way; of several revisions of one step and weights it has the first by name.

    Parameters
    ----------
    database
        The store's database.
    model
        The model, as stored.
    corpus
        Its corpus, if the model has series on several.
    run
        Beginning of the id of any run of it, where that does not tell them apart.

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
    alike: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in rows:
        alike.setdefault(tuple(row[name] for name in _MEASUREMENT), []).append(row)
    found = list(alike.values())
    if corpus is not None:
        found = [each for each in found if each[0]["corpus"] == corpus]
        if not found:
            corpora = {str(row["corpus"]) for row in rows}
            raise UnknownNameError("corpus", corpus, corpora, where=f"the series of {model} in {where}")
    if run is not None:
        of_run = [each for each in found if any(str(row["run_id"]).startswith(run) for row in each)]
        if len(of_run) != 1:
            kind = "single series of a run" if of_run else "run of a series"
            raise UnknownNameError(kind, run, map(_described, of_run or found), where=where)
        found = of_run
    if len(found) > 1:
        chooses = "`corpus` or `run` chooses one" if corpus is None else "`run` chooses one"
        raise UnknownNameError("single series of", model, map(_described, found), where=f"{where} ({chooses})")
    (rows,) = found
    first_of_step = {row["step"]: row for row in reversed(rows)}
    for row in rows:
        first = first_of_step[row["step"]]
        if row["weights_sha256"] != first["weights_sha256"]:
            raise AnalysisError(
                f"step {row['step']:,} of {model} is of several revisions, {first['revision']} and {row['revision']}, "
                "with other weights: measure the series under another --name, with steps of your own (ingest --steps)"
            )
    checkpoints = [
        MeasuredCheckpoint(
            row["run_id"], row["revision"], row["step"], row["weights_sha256"], cast("DType", row["dtype"])
        )
        for _, row in sorted(first_of_step.items())
    ]
    if len(checkpoints) < _MIN_CHECKPOINTS:
        names = ", ".join(each.revision for each in checkpoints)
        raise AnalysisError(
            f"the series of {model} on {rows[0]['corpus']} has {len(checkpoints)} checkpoints with a known step "
            f"({names}); a study needs {_MIN_CHECKPOINTS}"
        )
    layers, has_norms = _measured(database, checkpoints[-1].run_id)
    return Series(model, str(rows[0]["corpus"]), tuple(checkpoints), layers, has_norms)


def _measured(database: Database, run_id: str) -> tuple[tuple[tuple[str, int], ...], bool]:
    """Return the layers that a run measured, and whether the store knows norm and firing rate of all their neurons."""
    query = "select stack, layer, n_neurons from layers where run_id = ? order by all"
    layers = database.sql(query, [run_id]).arrow().to_pylist()
    # A store may hold a run without its neurons.
    query = "select count(*) from neurons where run_id = ? and isfinite(input_norm) and isfinite(firing_rate)"
    ((n_known,),) = database.sql(query, [run_id]).rows()
    return tuple((row["stack"], row["layer"]) for row in layers), n_known == sum(row["n_neurons"] for row in layers)


def _described(rows: Sequence[dict[str, Any]]) -> str:
    """Return a series as one of a list: its last run, how it was measured, and how long it is."""
    last = rows[-1]
    shown = [str(last[name]) for name in _MEASUREMENT if name != "corpus_sha256" and last[name] is not None]
    n_checkpoints = len({row["step"] for row in rows})
    return f"{last['run_id']} ({', '.join(shown)}: {n_checkpoints} checkpoints)"
