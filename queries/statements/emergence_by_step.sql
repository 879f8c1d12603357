-- emergence_by_step: how specialised are neurons, and how many experts are functional, at each checkpoint of a study?
--
-- Experts are functional by the test of the view expert_function_alignment, here of each partition on the run of its own
-- checkpoint alone: the view crosses all partitions with all runs. Partitions of neurons that stay the same (native,
-- random, matched) are tested at every checkpoint.
--
-- Parameters:
--   $study: the emergence_id
--   $runs: runs of its checkpoints
--   $last_run: that of the last
--   $partitions: its partitions, without those of the warm chain
--   $ranking: what chooses the top neurons that experts are tested for: lift or predictivity
-- Columns:
--   step: training step
--   best_predictivity: predictivity of a layer's best neuron, mean over functions and layers
--   best_lift_held_out: lift of that neuron on texts that did not choose it
--   mean_lift: lift of a neuron for its best function, mean over neurons
--   specialised: share of neurons with a q value of at most .05
--   functional_experts: share of pairs of expert and function that are functional, mean over layers and partitions
--   in_random: the same of random groups
--   in_matched: the same of groups matched on input norm and firing rate
--   degree: enrichment of the functional pairs, mean over functions, layers and partitions; 0 where none is
--   random_degree: the same of random groups
--   matched_degree: the same of matched groups
with of_neurons as (
    select run_id, avg(lift) as mean_lift, avg((q_value <= 0.05)::int) as specialised
    from specialization
    where run_id in $runs
    group by all
),

-- The view has means over the functions of a family.
of_best as (
    select
        run_id,
        sum(best_predictivity * n_functions) / sum(n_functions) as best_predictivity,
        sum(held_out_lift * n_held_out_functions) / sum(n_held_out_functions) as best_lift_held_out,
    from best_predictivity
    where run_id in $runs
    group by all
),

functions as (
    select run_id, count(*) as n_functions
    from run_functions
    where run_id in $runs
    group by all
),

tested as (
    select runs.run_id, runs.step, role, made.seed, partition_id
    from emergence_partitions as made
    inner join runs on runs.run_id = made.run_id or role in ('native', 'random', 'matched')
    where emergence_id = $study and role != 'warm' and runs.run_id in $runs
),

-- Weights are clustered of all layers; those that were not measured have no scores.
sizes as (
    select partition_id, stack, layer, expert, count(*) as n_neurons
    from experts
    inner join layers using (stack, layer)
    where partition_id in $partitions and run_id = $last_run
    group by all
),

layer_sizes as (
    select partition_id, stack, layer, count(*) as n_experts, sum(n_neurons)::bigint as n_covered
    from sizes
    group by all
),

tops_in_experts as (
    select run_id, role, seed, partition_id, stack, layer, expert, family, function, count(*) as n_top
    from tested
    inner join experts using (partition_id)
    inner join top_neurons_by($ranking) using (run_id, stack, layer, neuron)
    where partition_id in $partitions and run_id in $runs
    group by all
),

counted as (
    select
        *,
        sum(n_top) over (partition by run_id, partition_id, stack, layer, family, function)::bigint as n_drawn,
    from tops_in_experts
    inner join sizes using (partition_id, stack, layer, expert)
    inner join layer_sizes using (partition_id, stack, layer)
),

functional as (
    select
        run_id, role, seed, stack, layer, family, function,
        count(*) as n_functional, avg(n_top * n_covered / (n_neurons * n_drawn) order by expert) as degree,
    from counted
    where hypergeometric_tail(n_top, n_neurons, n_drawn, n_covered) <= 0.001
    group by all
),

of_layers as (
    select
        run_id, step, role, seed, stack, layer,
        coalesce(sum(n_functional), 0) / any_value(n_experts) / any_value(n_functions) as proportion,
        coalesce(sum(degree), 0) / any_value(n_functions) as degree,
    from tested
    inner join layer_sizes using (partition_id)
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
