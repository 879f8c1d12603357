"""What a study of emergence shows, in sections, and what to know beside: gaps, what its tests cannot show."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...ingest.models.steps import gaps
from ...queries.database import Database
from ...queries.statements import statement
from ...schema.vocabulary import Ranking
from ..sections import Section
from .series import Series
from .settings import EmergenceSettings

if TYPE_CHECKING:
    from .study import EmergenceReport


def summarise(
    database: Database, report: "EmergenceReport", *, thresholds: Sequence[float], ranking: Ranking = "lift"
) -> list[Section]:
    """Return the sections of a study, which the database was opened after; scores are settled at `thresholds`."""
    query = "from emergence_partitions where emergence_id = ? and role != 'warm' order by role, seed, run_id"
    stored = list(database.sql(query, [report.emergence_id]))
    last = [row for row in stored if row["run_id"] == report.last_run_id]
    # Neurons of the layers of any partition are the same: those of the cold one of the first seed, or of the native.
    asked = {
        "study": report.emergence_id,
        "model": report.model,
        "last_run": report.last_run_id,
        "runs": list(report.run_ids),
        "partitions": [row["partition_id"] for row in stored],
        "last_partitions": [row["partition_id"] for row in last],
        "partition": next(row["partition_id"] for row in last if row["role"] in ("cold", "native")),
        "thresholds": list(thresholds),
        "ranking": ranking,
    }
    is_native = report.method == "native"
    experts = "native experts" if is_native else "experts made anew"
    by_step = Section(
        "By step. Means over layers and functions: predictivity of the best neuron, and its lift above chance on "
        "texts that did not choose it. Means over neurons: lift for the best function, and share specialised "
        f"(q <= .05). Means over layers, functions and partitions: share of {experts} that are functional for the "
        f"function (its top neurons by {ranking}), and how strongly (enrichment), beside random and matched groups.",
        "emergence_by_step",
        asked,
    )
    settled = Section(
        "Settled: training step from which on scores stay correlated at the threshold or more with those of the "
        "previous or the last checkpoint; corrected: for noise of measurement. Scores are signed (a neuron that turns "
        "to a function's complement has changed), of neurons alive at both checkpoints; dead_neurons: how many are "
        "not, where most are, empty if unknown. Experts are those of the LAST "
        "checkpoint throughout: where they do not exist yet, the curve is that of groups of neurons that will become "
        "experts. Groups matched on input norm and firing rate are the control: experts may look stable for these "
        "alone. Neurons: step (band of the curve, about 95%; none with fewer than three functions). All others: "
        "median over partitions (least to most; how many reach it). '<= N': at N or before, where nothing earlier is "
        "known. Not reached: below, or without a value, at the end; counted as later than all others. No signal: too "
        "noisy to correct at any checkpoint; counted apart. Values: checkpoints at which the curve has one, of those "
        "compared.",
        "emergence_settled",
        asked,
        otherwise="Settled: no checkpoint can be compared with a previous or the last one.",
    )
    if is_native:
        births = Section(
            f"Births: native experts that are functional (p <= .001, top neurons by {ranking}) at the last checkpoint, "
            "and pairs of expert and function, means over partitions. Each pair has one test there, so that random and "
            "matched groups show what chance gives. Then of these pairs: share functional at the checkpoint before "
            "too, median step at which functional first, and from which on without a break.",
            "emergence_births",
            asked,
        )
        return [by_step, settled, births]
    agreement = Section(
        "Partitions: adjusted Rand index, mean over layers (0 by chance, 1 if equal). Between seeds: of partitions of "
        "one checkpoint, made from different seeds. Cold: of partitions of two checkpoints, made from different seeds, "
        "so that nothing but the checkpoints makes them agree. Expected: about what cold would be if nothing changed "
        "between the checkpoints, the root of the product of their agreements between seeds. Warm: of partitions that "
        "started from the experts of the checkpoint before.",
        "emergence_agreement",
        asked,
    )
    return [by_step, agreement, settled]


def notices(database: Database, emergence_id: str, series: Series, settings: EmergenceSettings) -> Iterator[str]:
    """Yield what a reader of a study must know beside its numbers, a line each; the database was opened after it."""
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
