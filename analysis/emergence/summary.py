"""What a study of emergence shows, in sections, and what to know beside: gaps, what its tests cannot show."""

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...ingest.models.steps import gaps
from ...queries.database import Database
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
    names = ("by_step", "settled", "births") if is_native else ("by_step", "agreement", "settled")
    said = {"experts": "native experts" if is_native else "experts made anew", "ranking": ranking}
    none = {"settled": "Settled: no checkpoint can be compared with a previous or the last one."}
    texts = tomllib.loads((Path(__file__).parent / "sentences.toml").read_text(encoding="utf-8"))
    sentences = {name: " ".join(text.format_map(said).split()) for name, text in texts.items()}
    return [Section(sentences[name], f"emergence_{name}", asked, none.get(name)) for name in names]


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
        tested = "functional experts and settled steps are tested on the scores that experts are made of"
        yield f"circular: {tested}; experts select the noise of the last checkpoint's scores, of both halves"
    if settings.n_random and not series.has_norms:
        lacking = f"run {series.last.run_id} holds no input norm and firing rate of all neurons"
        alike = "experts of neurons that fire equally often may look stable for that alone"
        yield f"no matched groups: {lacking}, so that {alike}"
    last_run = series.last.run_id
    yield from map(_power, database.ask("emergence_power", study=emergence_id, last_run=last_run, seed=settings.seed))


def _power(row: dict[str, Any]) -> str:
    """Return the line on layers in which no expert, or hardly one, can be functional, from a row of the statement."""
    layers, n_top, n_needed = row["layers"], row["n_top"], row["n_needed"]
    where = f"{row['stack']} layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"
    if n_needed is not None:
        needed = "all" if n_needed == n_top else f"{n_needed:,}"
        return f"an expert of {where} is functional only if it holds {needed} of a function's {n_top:,} top neurons"
    size = " to ".join(f"{size:,}" for size in sorted({row["n_smallest"], row["n_largest"]}))
    made = f"{n_top:,} top neuron{'s' * (n_top > 1)} a function, {row['n_experts']:,} experts of {size} neurons"
    return f"no expert of {where} can be functional: the smallest p is {row['least_p_value']:.2g} ({made})"
