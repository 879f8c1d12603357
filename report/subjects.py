"""What of a store is pictured: a model on a corpus, with its random initialisation and checkpoints."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..errors import UnknownNameError
from ..queries.database import Database
from ..queries.statements import statement


@dataclass(frozen=True, slots=True)
class Subject:
    """A measurement, the last of its series, and what the store has to compare it with."""

    model: str
    revision: str
    corpus: str | None  # None of imported scores
    run_id: str
    random_run_id: str | None  # the same architecture, randomly initialised
    is_random_init: bool  # of a store that has no other run of the measurement
    series: Sequence[str]  # runs of all checkpoints with a step, this one the last; empty without others
    left_out: Sequence[str]  # revisions of the same measurement that are not pictured
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
        return asdict(self) | {"weights": self.weights}


def find_subjects(
    database: Database, *, model: str | None = None, corpus: str | None = None, family: str | None = None
) -> list[Subject]:
    """Return what a store, or a slice of it, has to picture; a name that it lacks raises `UnknownNameError`."""
    for kind, name in {"model": model, "corpus": corpus, "family": family}.items():
        table = "run_functions" if kind == "family" else "runs"
        known = [str(row[0]) for row in database.sql(f"select distinct {kind} from {table}").rows()] if name else []
        if name and name not in known:
            raise UnknownNameError(kind, name, known, where=database.store)
    rows = database.sql(statement("report_subjects"), {"model": model, "corpus": corpus}).arrow().to_pylist()
    return [Subject(**row, family=family) for row in rows]
