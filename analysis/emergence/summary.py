"""What a study of emergence found, as a few tables, each with a line that says how to read it."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...queries.database import Database
from ...queries.quoting import literal
from .study import EmergenceReport

__all__ = ["THRESHOLDS", "Section", "summarise"]

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Correlations for which the view ``stabilization_steps`` has steps."""


@dataclass(frozen=True, slots=True)
class Section:
    """One table of a summary.

    Parameters
    ----------
    title
        What it shows and how to read it.
    query, parameters
        SQL that yields it, and the values of its ``$name``.
    """

    title: str
    query: str
    parameters: Mapping[str, object]


# {runs} and {partitions} stand for literals: a filter by them then reaches the files.
_BY_STEP = """
    with of_neurons as (
        select run_id, avg(lift) as mean_lift, avg((q_value <= 0.05)::int) as specialised
        from specialization
        where run_id in ({runs})
        group by all
    ),

    of_best as (
        select run_id, avg(best_predictivity) as best_predictivity, avg(held_out_lift) as best_lift_held_out
        from best_predictivity
        where run_id in ({runs})
        group by all
    ),

    functions as (
        select run_id, count(*) as n_functions
        from run_functions
        where run_id in ({runs})
        group by all
    ),

    -- Of layers that were measured.
    experts_of_layers as (
        select run_id, step, role, seed, stack, layer, count(*) as n_experts
        from expert_tracks
        inner join (select run_id, stack, layer from layers where run_id in ({runs})) using (run_id, stack, layer)
        where emergence_id = $study and (role in ('native', 'random') or (role = 'cold' and seed = $seed))
        group by all
    ),

    functional as (
        select
            run_id, role, seed, stack, layer, family, function,
            count(*) as n_functional, avg(enrichment order by expert) as degree,
        from track_alignment
        where emergence_id = $study and model = $model and is_functional
        group by all
    ),

    of_layers as (
        select
            run_id, step, role, seed, stack, layer,
            coalesce(sum(n_functional), 0) / any_value(n_experts) / any_value(n_functions) as proportion,
            coalesce(sum(degree), 0) / any_value(n_functions) as degree,
        from experts_of_layers
        inner join functions using (run_id)
        left join functional using (run_id, role, seed, stack, layer)
        group by all
    ),

    of_experts as (
        select
            run_id, step,
            avg(proportion) filter (where role != 'random') as proportion,
            avg(proportion) filter (where role = 'random') as random_proportion,
            avg(degree) filter (where role != 'random') as degree,
            avg(degree) filter (where role = 'random') as random_degree,
        from of_layers
        group by all
    )

    select
        step,
        round(best_predictivity, 4) as best_predictivity,
        round(best_lift_held_out, 4) as best_lift_held_out,
        round(mean_lift, 4) as mean_lift,
        round(specialised, 4) as specialised,
        round(proportion, 4) as functional_experts,
        round(random_proportion, 4) as in_random,
        round(degree, 3) as degree,
        round(random_degree, 3) as random_degree,
    from of_experts
    left join of_neurons using (run_id)
    left join of_best using (run_id)
    order by step
"""

_AGREEMENT = """
    select
        step,
        round(avg(adjusted_rand_index) filter (where role = 'cold' and reference = 'previous'), 3) as cold_to_previous,
        round(avg(adjusted_rand_index) filter (where role = 'cold' and reference = 'last'), 3) as cold_to_last,
        round(avg(adjusted_rand_index) filter (where role = 'cold' and reference = 'seed'), 3) as cold_between_seeds,
        round(avg(adjusted_rand_index) filter (where role = 'warm' and reference = 'previous'), 3) as warm_to_previous,
        round(avg(adjusted_rand_index) filter (where role = 'warm' and reference = 'last'), 3) as warm_to_last,
    from partition_changes
    inner join (select stack, layer from layers where run_id = $last_run) using (stack, layer)
    where emergence_id = $study
    group by step
    order by step
"""

_SETTLED = """
    with steps as (
        select
            *,
            case
                when n_checkpoints = 0 then 'no signal'
                when lasting_step is null then 'not reached'
                else if(is_lasting_censored, '<= ', '') || round(lasting_step)::bigint
            end as told,
        from stabilization_steps
        where
            last_run_id = $last_run and model = $model and threshold = $threshold
            and partition_id in ({partitions})
            and (level = 'random_group' or partition_id = $partition)
    )

    select
        reference as compared_to,
        is_corrected,
        stack,
        family,
        any_value(told) filter (where level = 'neuron') as neurons,
        any_value(told) filter (where level = 'expert') as experts,
        case
            when count(lasting_step) filter (where level = 'random_group') = 0
                then max(told) filter (where level = 'random_group')
            else
                if(bool_or(is_lasting_censored) filter (where level = 'random_group'), '<= ', '')
                || round(avg(lasting_step) filter (where level = 'random_group'))::bigint
                || ' (' || round(min(lasting_step) filter (where level = 'random_group'))::bigint
                || ' to ' || round(max(lasting_step) filter (where level = 'random_group'))::bigint
                || ', ' || count(lasting_step) filter (where level = 'random_group')
                || ' of ' || count(*) filter (where level = 'random_group') || ')'
        end as random_groups,
    from steps
    group by all
    order by reference, is_corrected, stack, family
"""

_BIRTHS = """
    with lineages as (
        select role, seed, count(distinct (stack, layer, track)) as n_experts
        from expert_tracks
        where emergence_id = $study
        group by all
    ),

    births as (
        select
            role, seed,
            count(distinct (stack, layer, track)) as n_functional,
            count(*) as n_pairs,
            count(*) filter (where is_functional_at_last) as n_pairs_at_last,
            count(lasting_step) as n_lasting,
        from expert_births
        where emergence_id = $study and model = $model
        group by all
    ),

    medians as (
        select role, median(first_step) as first_step, median(lasting_step) as lasting_step
        from expert_births
        where emergence_id = $study and model = $model
        group by all
    )

    select
        role,
        count(*) as n_partitions,
        any_value(n_experts) as n_experts,
        round(avg(coalesce(n_functional, 0)), 1) as ever_functional,
        round(avg(coalesce(n_pairs, 0)), 1) as pairs_ever,
        round(avg(coalesce(n_pairs_at_last, 0)), 1) as pairs_at_last,
        any_value(medians.first_step) as median_first_step,
        any_value(medians.lasting_step) as median_lasting_step,
    from lineages
    left join births using (role, seed)
    left join medians using (role)
    group by role
    order by array_position(['cold', 'warm', 'native', 'random'], role)
"""


def summarise(database: Database, report: EmergenceReport, *, threshold: float) -> list[Section]:
    """Return the tables that tell what a study found.

    Parameters
    ----------
    database
        The store's database, opened since the study was made.
    report
        The study.
    threshold
        Correlation from which on scores count as settled, one of `THRESHOLDS`.
    """
    query = "select role, seed, run_id, partition_id from emergence_partitions where emergence_id = ? order by all"
    rows = list(database.sql(query, [report.emergence_id]))
    runs = sorted(
        {
            str(row["run_id"])
            for row in database.sql(
                "select distinct run_id from expert_tracks where emergence_id = ?", [report.emergence_id]
            )
        }
    )
    last = [row for row in rows if row["run_id"] == report.last_run_id]
    # Roles are in the order of their names: cold of the first seed, or native.
    (own, *_) = (row for row in last if row["role"] in ("cold", "native"))
    partitions = [str(row["partition_id"]) for row in last if row is own or row["role"] == "random"]
    names = {"runs": _listed(runs), "partitions": _listed(partitions)}
    study = {"study": report.emergence_id}
    series = {"last_run": report.last_run_id}
    model = {"model": report.model}
    made = "native experts" if own["role"] == "native" else f"experts of the first seed ({own['seed']})"
    sections = [
        Section(
            "By step. Means over layers and functions: predictivity of the best neuron, and its lift above chance on "
            "texts that did not choose it; over neurons: lift for the best function, share specialised (q <= .05); "
            f"share of {made} that are functional and how strongly (enrichment), beside random groups.",
            _BY_STEP.format(**names),
            {**study, **model, "seed": own["seed"]},
        ),
    ]
    if own["role"] == "cold":
        sections.append(
            Section(
                "Partitions: adjusted Rand index, mean over layers (0 by chance, 1 if equal). Cold: made anew at each "
                "checkpoint, and held against those of other seeds, so that nothing but the checkpoints makes them "
                "agree; between seeds: at one and the same checkpoint, the most to expect. Warm: started from the "
                "experts of the checkpoint before.",
                _AGREEMENT,
                {**study, **series},
            )
        )
    sections += [
        Section(
            f"Settled: training step from which on the scores of neurons, of {made} at the last checkpoint and of "
            f"random groups stay correlated at {threshold:g} or more with the previous or the last checkpoint "
            "(corrected: for noise of measurement). '<= N': already at the first checkpoint with a value, N; not "
            "reached: below at the end; no signal: too noisy to correct. Random groups: mean (range, partitions that "
            "reach it). Other thresholds: view stabilization_steps.",
            _SETTLED.format(**names),
            {**series, **model, "threshold": threshold, "partition": own["partition_id"]},
        ),
        Section(
            "Births: experts of the last checkpoint, followed back, that are functional (p <= .001) at one checkpoint "
            "or more, and pairs of expert and function, means over partitions; median step at which a pair is "
            "functional first, and from which on it stays so. Random groups: what is born by chance. Each pair: view "
            "expert_births.",
            _BIRTHS,
            {**study, **model},
        ),
    ]
    return sections


def _listed(values: list[str]) -> str:
    return ", ".join(literal(each) for each in values)
