"""What a study of emergence found, as a few tables, each with a line that says how to read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...queries.database import Database
from ...queries.quoting import literal
from .study import EmergenceReport

__all__ = ["Section", "summarise"]


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

    -- The view has means over the functions of a family.
    of_best as (
        select
            run_id,
            sum(best_predictivity * n_functions) / sum(n_functions) as best_predictivity,
            sum(held_out_lift * n_held_out_functions) / sum(n_held_out_functions) as best_lift_held_out,
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

    experts_of_layers as (
        select run_id, step, role, seed, stack, layer, count(*) as n_experts
        from expert_tracks
        where emergence_id = $study and role != 'warm'
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
            avg(proportion) filter (where role in ('cold', 'native')) as proportion,
            avg(proportion) filter (where role = 'random') as random_proportion,
            avg(proportion) filter (where role = 'matched') as matched_proportion,
            avg(degree) filter (where role in ('cold', 'native')) as degree,
            avg(degree) filter (where role = 'random') as random_degree,
            avg(degree) filter (where role = 'matched') as matched_degree,
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
        round(matched_proportion, 4) as in_matched,
        round(degree, 3) as degree,
        round(random_degree, 3) as random_degree,
        round(matched_degree, 3) as matched_degree,
    from of_experts
    left join of_neurons using (run_id)
    left join of_best using (run_id)
    order by step
"""

_AGREEMENT = """
    with means as (
        select
            step,
            avg(adjusted_rand_index) filter (where role = 'cold' and reference = 'seed') as between_seeds,
            avg(adjusted_rand_index) filter (where role = 'cold' and reference = 'previous') as cold_to_previous,
            avg(adjusted_rand_index) filter (where role = 'cold' and reference = 'last') as cold_to_last,
            avg(adjusted_rand_index) filter (where role = 'warm' and reference = 'previous') as warm_to_previous,
            avg(adjusted_rand_index) filter (where role = 'warm' and reference = 'last') as warm_to_last,
        from partition_changes
        where emergence_id = $study
        group by step
    )

    select
        step,
        round(between_seeds, 3) as between_seeds,
        round(cold_to_previous, 3) as cold_to_previous,
        round(sqrt(greatest(between_seeds, 0) * lag(greatest(between_seeds, 0)) over steps), 3) as expected_to_previous,
        round(cold_to_last, 3) as cold_to_last,
        case when cold_to_last is not null then
            round(sqrt(greatest(between_seeds, 0) * last_value(greatest(between_seeds, 0)) over all_steps), 3)
        end as expected_to_last,
        round(warm_to_previous, 3) as warm_to_previous,
        round(warm_to_last, 3) as warm_to_last,
    from means
    window
        steps as (order by step),
        all_steps as (order by step rows between unbounded preceding and unbounded following)
    order by step
"""

# What is never reached is infinitely late, so that medians and ranges count it as later than all others.
_SETTLED = """
    with steps as (
        select
            *,
            case
                when level = 'neuron' then 'neurons'
                when level = 'expert' then 'experts'
                else method
            end as units,
        from stabilization_steps
        where
            last_run_id = $last_run and model = $model and list_contains($thresholds, threshold)
            and partition_id in ({partitions})
            and (level != 'neuron' or partition_id = $partition)
    ),

    grouped as (
        select
            reference, is_corrected, stack, family, threshold, units,
            list_sort(list({{'step': coalesce(lasting_step, 'infinity'), 'is_censored': is_lasting_censored}})
                filter (where n_checkpoints > 0)) as known,
            count(*) filter (where n_checkpoints = 0) as n_silent,
            count(lasting_step) as n_reached,
            any_value(
                if(is_lasting_censored, ' (<= ', ' (') || round(lasting_step_earliest)::bigint || ' to '
                || coalesce(round(lasting_step_latest)::bigint::varchar, 'not reached') || ')'
            ) as band,
            min(n_checkpoints)
            || case when min(n_checkpoints) < max(n_checkpoints) then ' to ' || max(n_checkpoints) else '' end
            || ' of ' || max(n_compared) as n_values,
        from steps
        group by all
    ),

    points as (
        select
            *,
            list_transform(
                [
                    {{
                        'step': (known[(len(known) + 1) // 2].step + known[len(known) // 2 + 1].step) / 2,
                        'is_censored':
                            known[(len(known) + 1) // 2].is_censored or known[len(known) // 2 + 1].is_censored
                    }},
                    known[1],
                    known[-1]
                ],
                lambda point: case
                    when isinf(point.step) then 'not reached'
                    else if(point.is_censored, '<= ', '') || round(point.step)::bigint
                end
            ) as told,
        from grouped
    ),

    texts as (
        select
            *,
            case
                when known is null then 'no signal' || if(units = 'neurons', '', ' (' || n_silent || ')')
                when units = 'neurons' then told[1] || coalesce(band, '')
                else told[1] || ' (' || if(n_reached = 0, '', told[2] || ' to ' || told[3] || '; ')
                    || n_reached || ' of ' || len(known) || ' reach it'
                    || if(n_silent = 0, '', ', ' || n_silent || ' no signal') || ')'
            end as told_in_full,
        from points
    )

    select
        reference as compared_to,
        is_corrected,
        stack,
        family,
        threshold::varchar as threshold,
        any_value(told_in_full) filter (where units = 'neurons') as neurons,
        any_value(told_in_full) filter (where units = 'experts') as experts,
        any_value(told_in_full) filter (where units = 'random') as random,
        any_value(told_in_full) filter (where units = 'matched') as matched,
        any_value(n_values) filter (where units = 'neurons') as neuron_values,
        any_value(n_values) filter (where units = 'experts') as expert_values,
    from texts
    group by all
    order by reference, is_corrected, stack, family, threshold
"""

_BIRTHS = """
    with lineages as (
        select role, seed, count(*) as n_experts
        from expert_tracks
        where emergence_id = $study and run_id = $last_run
        group by all
    ),

    pairs as (
        select role, seed, stack, layer, track, first_step, lasting_step, lasting_step < step as is_functional_before
        from expert_births
        where emergence_id = $study and model = $model and is_functional_at_last
    ),

    counts as (
        select role, seed, count(distinct (stack, layer, track)) as n_functional, count(*) as n_pairs
        from pairs
        group by all
    ),

    pooled as (
        select
            role,
            avg(is_functional_before::int) as before_too,
            median(first_step) as first_step,
            median(lasting_step) as lasting_step,
        from pairs
        group by all
    )

    select
        role,
        count(*) as n_partitions,
        any_value(n_experts) as n_experts,
        round(avg(coalesce(n_functional, 0)), 1) as functional_experts,
        round(avg(coalesce(n_pairs, 0)), 1) as functional_pairs,
        round(any_value(before_too), 3) as before_too,
        any_value(first_step) as median_first_step,
        any_value(lasting_step) as median_lasting_step,
    from lineages
    left join counts using (role, seed)
    left join pooled using (role)
    group by role
    order by array_position(['cold', 'warm', 'native', 'random', 'matched'], role)
"""


def summarise(database: Database, report: EmergenceReport, *, thresholds: Sequence[float]) -> list[Section]:
    """Return the tables that tell what a study found.

    Parameters
    ----------
    database
        The store's database, opened since the study was made.
    report
        The study.
    thresholds
        Correlations from which on scores count as settled, of those that the view ``stabilization_steps`` has.
    """
    query = "select role, seed, run_id, partition_id from emergence_partitions where emergence_id = ? order by all"
    rows = list(database.sql(query, [report.emergence_id]))
    query = "select distinct run_id from expert_tracks where emergence_id = ? order by all"
    runs = [str(row["run_id"]) for row in database.sql(query, [report.emergence_id])]
    last = [row for row in rows if row["run_id"] == report.last_run_id and row["role"] != "warm"]
    # Neurons of the layers of any partition are the same: those of the cold one of the first seed, or of the native.
    own, *_ = (row for row in last if row["role"] in ("cold", "native"))
    names = {
        "runs": _listed(runs),
        "partitions": _listed([str(row["partition_id"]) for row in last]),
    }
    keys = {"study": report.emergence_id, "model": report.model}
    series = {"last_run": report.last_run_id}
    made = "native experts" if own["role"] == "native" else "experts made anew"
    sections = [
        Section(
            "By step. Means over layers and functions: predictivity of the best neuron, and its lift above chance on "
            "texts that did not choose it; over neurons: lift for the best function, share specialised (q <= .05); "
            f"over layers, functions and partitions: share of {made} that are functional for the function and how "
            "strongly (enrichment), beside random groups and matched ones.",
            _BY_STEP.format(**names),
            keys,
        ),
    ]
    if own["role"] == "cold":
        sections.append(
            Section(
                "Partitions: adjusted Rand index, mean over layers (0 by chance, 1 if equal). Between seeds: made anew "
                "at one and the same checkpoint, beside which those to the previous and the last checkpoint are read, "
                "cold: made anew at each, of different seeds, so that nothing but the checkpoints makes them agree. "
                "Expected: about what these would be if nothing changed between the two checkpoints, the root of the "
                "product of their agreements between seeds. Warm: started from the experts of the checkpoint before.",
                _AGREEMENT,
                {"study": report.emergence_id},
            )
        )
    sections += [
        Section(
            "Settled: training step from which on scores stay correlated at the threshold or more with those of the "
            f"previous or the last checkpoint (corrected: for noise of measurement), of neurons, of {made}, and of "
            "random and matched groups. Experts are those of the LAST checkpoint throughout: where they do not exist "
            "yet, the curve is that of groups of neurons that will become experts. Neurons: step (band of the curve, "
            "about 95%; none with fewer than three functions). All others: median over partitions (least to most; "
            "how many reach it). '<= N': at N or before, where nothing earlier is known; not reached: below, or "
            "without a value, at the end, and counted as later than all others; no signal: too noisy to correct at "
            "any checkpoint, counted apart. Values: checkpoints at which the curve has one, of those compared. Groups "
            "matched on input norm and firing rate are the control: experts may look stable for these alone.",
            _SETTLED.format(**names),
            {**series, "model": report.model, "partition": own["partition_id"], "thresholds": list(thresholds)},
        ),
        Section(
            "Births: experts that are functional (p <= .001) at the last checkpoint, and pairs of expert and function, "
            "means over partitions: one test of each pair, whatever the role, so that random and matched groups tell "
            "what chance gives. Of these pairs, followed back: share functional at the checkpoint before too, median "
            "step at which first, and from which on without a break. Pairs that are functional at some checkpoint "
            "(view expert_births) cannot be compared: partitions made anew have a look at each, groups that stay the "
            "same nearly one.",
            _BIRTHS,
            {**keys, **series},
        ),
    ]
    return sections


def _listed(values: Sequence[str]) -> str:
    return ", ".join(literal(each) for each in values)
