"""What to know of a study beside its numbers: gaps of the series, and what its tests and curves cannot show."""

from collections.abc import Iterator
from typing import Any

from ...ingest.models.steps import gaps
from ...queries.database import Database
from ...queries.statements import statement
from .series import Series
from .settings import EmergenceSettings


def notices(database: Database, emergence_id: str, series: Series, settings: EmergenceSettings) -> Iterator[str]:
    """Yield what a reader of a study must know beside its numbers, a line each; the database was opened after it.

    The lines name steps that the series lacks, checkpoints with the same weights, what the method cannot do, and layers
    in which no expert, or hardly one, can be functional.
    """
    missing = [step for gap, _ in gaps(checkpoint.step for checkpoint in series.checkpoints) for step in gap]
    if missing:
        steps = ", ".join(f"{step:,}" for step in missing)
        yield f"no checkpoint at step {steps}, where the others are evenly spaced"
    for twins in series.twins():
        names = ", ".join(f"{checkpoint.revision} (step {checkpoint.step:,})" for checkpoint in twins)
        yield f"{names} have one and the same weights: which is mislabelled is not known, settled steps exclude all"
    if settings.method == "coactivation":
        yield "no warm chain: METIS, which divides the graph of coactivations, starts from nothing"
    if settings.method == "native":
        yield "native experts are the same neurons throughout: they are of the last checkpoint alone"
    if settings.method == "function":
        yield (
            "circular: functional experts and settled steps are tested on the scores that experts are made of; experts "
            "select the noise of the last checkpoint's scores, of both halves"
        )
    if settings.n_random and not series.has_norms:
        yield (
            f"no matched groups: run {series.last.run_id} holds no input norm and firing rate of all neurons, so that "
            "experts of neurons that fire equally often may look stable for that alone"
        )
    parameters = {"study": emergence_id, "last_run": series.last.run_id, "seed": settings.seed}
    yield from map(_power, database.sql(statement("emergence_power"), parameters))


def _power(row: dict[str, Any]) -> str:
    """Return the line on layers in which no expert, or hardly one, can be functional, from a row of the statement."""
    layers, n_top, n_needed = row["layers"], row["n_top"], row["n_needed"]
    where = f"{row['stack']} layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"
    if n_needed is not None:
        needed = "all" if n_needed == n_top else f"{n_needed:,}"
        return f"an expert of {where} is functional only if it holds {needed} of a function's {n_top:,} top neurons"
    size = " to ".join(f"{size:,}" for size in sorted({row["n_smallest"], row["n_largest"]}))
    return (
        f"no expert of {where} can be functional: the smallest p is {row['least_p_value']:.2g} "
        f"({n_top:,} top neuron{'s' * (n_top > 1)} a function, {row['n_experts']:,} experts of {size} neurons)"
    )
