-- emergence_births: how many native experts are functional at the last checkpoint, and since when?
--
-- Pairs of expert and function that are functional at the last checkpoint: each pair is tested once there, whatever the
-- role, so that random and matched groups show what chance gives.
--
-- Parameters:
--   $study: the emergence_id
--   $model: the model, as stored
--   $last_run: run of the last checkpoint
--   $ranking: what chooses top neurons: lift or predictivity
-- Columns:
--   role: native, random or matched
--   n_partitions: partitions of the role
--   n_experts: experts of one of them, over all layers
--   functional_experts: those that are functional for at least one function, mean over partitions
--   functional_pairs: pairs of expert and function, mean over partitions
--   before_too: share of the pairs that are functional at the checkpoint before as well
--   median_first_step: median of the steps at which a pair is functional first
--   median_lasting_step: median of the steps from which on it is functional without a break
with lineages as (
    select role, seed, count(*) as n_experts
    from expert_tracks
    where emergence_id = $study and run_id = $last_run
    group by all
),

pairs as (
    select role, seed, stack, layer, track, first_step, lasting_step, lasting_step < step as is_functional_before
    from expert_births_by($ranking)
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
order by array_position(['native', 'random', 'matched'], role)
