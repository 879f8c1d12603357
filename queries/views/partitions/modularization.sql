-- modularization: how modular is a layer: how many of its experts are functional, and how strongly?
--
-- By predictivity the paper's proportion and degree (its Tables 1 and 4): means over the family's functions. The
-- random_ columns give what the same run has by chance: mean and maximum over the random partitions of the same
-- revision that have as many neurons and experts in the layer. If the partition of the row is random itself, it is
-- among them.
--
-- Ranked
-- Grain: run_id, partition_id, stack, layer, family
-- Source: expert_function_alignment, control_alignment, expert_effect_sizes
-- Columns:
--   run_id, model, revision, step, partition_id, partition_revision, method, partition_half, n_experts, stack, layer
--   family
--   n_functions: functions averaged
--   proportion: functional experts / experts
--   degree: mean enrichment of a function's functional experts, 0 where there is none
--   n_functional: functional pairs of expert and function
--   n_significant: significant pairs of expert and function
--   control_proportion: proportion over the control functions, of the control with most of them; NULL without any
--   control_degree: degree over the control functions, of the control whose degree is highest; NULL without any
--   eta_squared, chance_eta_squared
--   random_proportion: mean proportion of the random partitions, NULL if there is none
--   random_proportion_max: their largest proportion, NULL likewise
--   random_degree: their mean degree, NULL likewise
--   random_degree_max: their largest degree, NULL likewise
--   random_eta_squared: their mean eta_squared, NULL likewise
--   n_random: random partitions averaged
with of_control_functions as (
    select
        * exclude (expert, n_neurons, n_top, n_expected, enrichment, p_value, is_functional),
        count(*) filter (where is_functional) as n_functional,
        coalesce(avg(enrichment order by expert) filter (where is_functional), 0) as degree,
    from control_alignment_by(ranking)
    group by all
),

of_controls as (
    select
        * exclude (draw, function, n_functional, degree),
        avg(n_functional) as n_functional_of_control,
        avg(degree order by function, draw) as control_degree,
    from of_control_functions
    group by all
),

of_functions as (
    -- One below the other, not joined: a filter on a run or a step then reaches the files of both. A filter on a
    -- partition does not, as the random ones are read beside it.
    select
        run_id, model, revision, step, partition_id, partition_revision, method, partition_half, n_experts,
        stack, layer, family, function,
        sum(n_neurons)::bigint as n_covered,
        avg(is_functional::integer) as proportion,
        coalesce(avg(enrichment order by expert) filter (where is_functional), 0) as degree,
        count(*) filter (where is_functional) as n_functional,
        count(*) filter (where is_significant) as n_significant,
    from expert_function_alignment_by(ranking)
    group by all
    union all by name
    select * exclude (n_experts, n_neurons, best_expert, best_mean, mean)
    from expert_effect_sizes_by(ranking)
    union all by name
    select * exclude (control)
    from of_controls
),

of_families as (
    select
        run_id,
        model,
        revision,
        step,
        partition_id,
        partition_revision,
        method,
        partition_half,
        max(n_experts) as n_experts,
        max(n_covered) as n_covered,
        stack,
        layer,
        family,
        count(proportion) as n_functions,
        avg(proportion order by function) as proportion,
        avg(degree order by function) as degree,
        sum(n_functional)::bigint as n_functional,
        sum(n_significant)::bigint as n_significant,
        max(n_functional_of_control) / max(n_experts) as control_proportion,
        max(control_degree) as control_degree,
        avg(eta_squared order by function) as eta_squared,
        avg(chance_eta_squared order by function) as chance_eta_squared,
    from of_functions
    group by all
)

select
    * exclude (n_covered),
    avg(proportion) filter (where method = 'random') over same_layer as random_proportion,
    max(proportion) filter (where method = 'random') over same_layer as random_proportion_max,
    avg(degree) filter (where method = 'random') over same_layer as random_degree,
    max(degree) filter (where method = 'random') over same_layer as random_degree_max,
    avg(eta_squared) filter (where method = 'random') over same_layer as random_eta_squared,
    count(*) filter (where method = 'random') over same_layer as n_random,
from of_families
window same_layer as (
    partition by run_id, model, revision, step, partition_revision, stack, layer, family, n_experts, n_covered
    order by partition_id
    rows between unbounded preceding and unbounded following
)
