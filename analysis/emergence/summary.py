"""What a study of emergence shows, in sections: tables, and sentences that say how to read them."""

from collections.abc import Sequence

from ...queries.database import Database
from ...schema.vocabulary import Ranking
from ..sections import Section
from .study import EmergenceReport


def summarise(
    database: Database, report: EmergenceReport, *, thresholds: Sequence[float], ranking: Ranking = "lift"
) -> list[Section]:
    """Return the sections of a study: scores by step, agreement of partitions, settled steps, births of native experts.

    The database was opened after the study was made. A score counts as settled at the correlations `thresholds`, which
    are among those of the view ``stabilization_steps``. Experts are tested for the top neurons by a `ranking`.
    """
    query = (
        "select role, run_id, partition_id from emergence_partitions where emergence_id = ? and role != 'warm' "
        "order by role, seed, run_id"
    )
    stored = list(database.sql(query, [report.emergence_id]))
    last = [row for row in stored if row["run_id"] == report.last_run_id]
    # Neurons of the layers of any partition are the same: those of the cold one of the first seed, or of the native.
    own = next(row["partition_id"] for row in last if row["role"] in ("cold", "native"))
    study, last_run = {"study": report.emergence_id}, {"last_run": report.last_run_id}
    is_native = report.method == "native"
    experts = "native experts" if is_native else "experts made anew"
    partitions = [row["partition_id"] for row in stored]
    by_step = Section(
        "By step. Means over layers and functions: predictivity of the best neuron, and its lift above chance on "
        "texts that did not choose it. Means over neurons: lift for the best function, and share specialised "
        f"(q <= .05). Means over layers, functions and partitions: share of {experts} that are functional for the "
        f"function (its top neurons by {ranking}), and how strongly (enrichment), beside random and matched groups.",
        "emergence_by_step",
        {**study, **last_run, "runs": list(report.run_ids), "partitions": partitions, "ranking": ranking},
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
        {
            **last_run,
            "model": report.model,
            "partitions": [row["partition_id"] for row in last],
            "partition": own,
            "thresholds": list(thresholds),
        },
        otherwise="Settled: no checkpoint can be compared with a previous or the last one.",
    )
    if is_native:
        births = Section(
            f"Births: native experts that are functional (p <= .001, top neurons by {ranking}) at the last checkpoint, "
            "and pairs of expert and function, means over partitions. Each pair has one test there, so that random and "
            "matched groups show what chance gives. Then of these pairs: share functional at the checkpoint before "
            "too, median step at which functional first, and from which on without a break.",
            "emergence_births",
            {**study, **last_run, "model": report.model, "ranking": ranking},
        )
        return [by_step, settled, births]
    agreement = Section(
        "Partitions: adjusted Rand index, mean over layers (0 by chance, 1 if equal). Between seeds: of partitions of "
        "one checkpoint, made from different seeds. Cold: of partitions of two checkpoints, made from different seeds, "
        "so that nothing but the checkpoints makes them agree. Expected: about what cold would be if nothing changed "
        "between the checkpoints, the root of the product of their agreements between seeds. Warm: of partitions that "
        "started from the experts of the checkpoint before.",
        "emergence_agreement",
        study,
    )
    return [by_step, agreement, settled]
