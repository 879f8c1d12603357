"""What of a store is pictured: a model on a corpus, with its random initialisation and checkpoints."""

from dataclasses import dataclass

import polars as pl

from ..errors import UnknownNameError
from ..queries.database import Database
from ..queries.statements import statement

_AS_STORED = ("model", "revision", "run_id", "n_neurons", "n_layers", "n_functions", "n_instances", "n_control_draws")


@dataclass(frozen=True, slots=True)
class Subject:
    """A measurement, the last of its series, and what the store has to compare it with."""

    model: str
    revision: str
    corpus: str | None  # None of imported scores
    run_id: str
    random_run_id: str | None  # the same architecture, randomly initialised
    is_random_init: bool  # of a store that has no other run of the measurement
    series: tuple[str, ...]  # runs of all checkpoints with a step, this one the last; empty without others
    left_out: tuple[str, ...]  # revisions of the same measurement that are not pictured
    n_neurons: int
    n_layers: int
    n_functions: int
    n_instances: int | None
    n_control_draws: int
    family: str | None  # the only family that is pictured; None for all

    @property
    def title(self) -> str:
        """The model and the corpus."""
        revision = "" if self.revision == "main" else f" {self.revision}"
        return f"{self.model}{revision} on {self.corpus or 'imported scores'}"

    @property
    def weights(self) -> str:
        """What its weights are, as charts name it."""
        return "random initialisation" if self.is_random_init else "trained"

    @property
    def parameters(self) -> dict[str, object]:
        """What statements ask of it."""
        names = ("run_id", "random_run_id", "series", "family", "weights")
        return {name: getattr(self, name) for name in names}


def find_subjects(
    database: Database, *, model: str | None = None, corpus: str | None = None, family: str | None = None
) -> list[Subject]:
    """Return what a store, or a slice of it, has to picture, by model and corpus.

    Of revisions that differ in weights alone it is the last step, or else ``main``. A name that the store lacks
    raises `UnknownNameError`.
    """
    for table, kind, name in (
        ("runs", "model", model),
        ("runs", "corpus", corpus),
        ("run_functions", "family", family),
    ):
        known = [str(row[0]) for row in database.sql(f"select distinct {kind} from {table}").rows()] if name else []
        if name and name not in known:
            raise UnknownNameError(kind, name, known, where=database.store)
    runs = database.sql(statement("report_runs"), {"model": model, "corpus": corpus}).pl()
    subjects = []
    for _, group in runs.group_by("model", "settings", "is_imported", maintain_order=True):
        trained, random = (group.filter(is_random_init=is_random) for is_random in (False, True))
        # A store of a random initialisation alone is pictured as what it is.
        chosen = trained if len(trained) else random
        stepped = chosen.filter(pl.col("step").is_not_null()).unique("step", keep="first", maintain_order=True)
        main, is_series = chosen.filter(revision="main"), len(stepped) > 1
        last = (stepped if is_series else main if len(main) else chosen).row(-1, named=True)
        series = tuple(stepped["run_id"]) if is_series else ()
        subjects.append(
            Subject(
                corpus=last["corpus"],
                random_run_id=random["run_id"][0] if len(trained) and len(random) else None,
                is_random_init=last["is_random_init"],
                series=series,
                left_out=tuple(trained.filter(~pl.col("run_id").is_in([*series, last["run_id"]]))["revision"]),
                family=family,
                **{name: last[name] for name in _AS_STORED},
            )
        )
    return subjects
