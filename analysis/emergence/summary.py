"""What a study of emergence shows, as a few sections, each with a sentence that says how to read it."""

from collections.abc import Sequence

from ...queries.database import Database
from ..sections import Section
from .study import EmergenceReport

__all__ = ["summarise"]


def summarise(database: Database, report: EmergenceReport, *, thresholds: Sequence[float]) -> list[Section]:
    """Return the sections that show what a study is about: scores by step, agreement, settled steps, births.

    Parameters
    ----------
    database
        The store's database, opened since the study was made.
    report
        The study.
    thresholds
        Correlations from which on scores count as settled, of those that the view ``stabilization_steps`` has.
    """
    query = (
        "select role, run_id, partition_id from emergence_partitions where emergence_id = ? and role != 'warm' "
        "order by role, seed, run_id"
    )
    made = list(database.sql(query, [report.emergence_id]))
    last = [row for row in made if row["run_id"] == report.last_run_id]
    # Neurons of the layers of any partition are the same: those of the cold one of the first seed, or of the native.
    own = next(row["partition_id"] for row in last if row["role"] in ("cold", "native"))
    study, last_run = {"study": report.emergence_id}, {"last_run": report.last_run_id}
    is_native = report.method == "native"
    experts = "native experts" if is_native else "experts made anew"
    partitions = [row["partition_id"] for row in made]
    by_step = Section(
        "By step. Means over layers and functions: predictivity of the best neuron, and its lift above chance on "
        "texts that did not choose it; over neurons: lift for the best function, share specialised (q <= .05); "
        f"over layers, functions and partitions: share of {experts} that are functional for the function and how "
        "strongly (enrichment), beside random groups and matched ones.",
        "emergence_by_step",
        {**study, **last_run, "runs": list(report.run_ids), "partitions": partitions},
    )
    settled = Section(
        "Settled: training step from which on scores stay correlated at the threshold or more with those of the "
        f"previous or the last checkpoint (corrected: for noise of measurement), of neurons, of {experts}, and of "
        "random and matched groups. Experts are those of the LAST checkpoint throughout: where they do not exist yet, "
        "the curve is that of groups of neurons that will become experts. Neurons: step (band of the curve, about "
        "95%; none with fewer than three functions). All others: median over partitions (least to most; how many "
        "reach it). '<= N': at N or before, where nothing earlier is known; not reached: below, or without a value, "
        "at the end, and counted as later than all others; no signal: too noisy to correct at any checkpoint, counted "
        "apart. Values: checkpoints at which the curve has one, of those compared. Groups matched on input norm and "
        "firing rate are the control: experts may look stable for these alone.",
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
            "Births: experts that are functional (p <= .001) at the last checkpoint, and pairs of expert and function, "
            "means over partitions: one test of each pair, whatever the role, so that random and matched groups show "
            "what chance gives. Of these pairs, followed back: share functional at the checkpoint before too, median "
            "step at which first, and from which on without a break.",
            "emergence_births",
            {**study, **last_run, "model": report.model},
        )
        return [by_step, settled, births]
    agreement = Section(
        "Partitions: adjusted Rand index, mean over layers (0 by chance, 1 if equal). Between seeds: made anew at one "
        "and the same checkpoint, beside which those to the previous and the last checkpoint are read, cold: made "
        "anew at each, of different seeds, so that nothing but the checkpoints makes them agree. Expected: about what "
        "these would be if nothing changed between the two checkpoints, the root of the product of their agreements "
        "between seeds. Warm: started from the experts of the checkpoint before.",
        "emergence_agreement",
        study,
    )
    return [by_step, agreement, settled]
