-- emergence_agreement: how much do the partitions of a study agree, between seeds and between checkpoints?
--
-- Expected is what agreement would be about if nothing changed between two checkpoints: the root of the product of their
-- agreements between seeds.
--
-- Parameters:
--   $study: the emergence_id
-- Columns:
--   step: training step
--   between_seeds: adjusted Rand index of partitions of other seeds at the same checkpoint, mean over layers and seeds
--   cold_to_previous: of partitions made anew, with those of other seeds at the checkpoint before
--   expected_to_previous: what it would be if nothing had changed
--   cold_to_last: with those of other seeds at the last checkpoint
--   expected_to_last: what it would be if nothing had changed
--   warm_to_previous: of the partition that started from the checkpoint before, with that one
--   warm_to_last: with the last one of the chain
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
