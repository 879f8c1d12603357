-- report_training: how alike are scores at each checkpoint to those at the last, of neurons, experts and other groups?
--
-- Parameters:
--   $run_id: run of the last checkpoint
--   $partitions: the partitions of the last checkpoint, * of neurons
--   $family: the family, NULL for all
-- Columns:
--   step: training step
--   stack, family: what is averaged over
--   units: neurons, experts, random groups or matched groups
--   correlation: corrected for noise, mean over partitions; NULL where there is too little signal
--   low, high: two standard errors below and above, mean over partitions
--   uncorrected: the correlation as it is
--   ceiling: what it could be at most
select
    step,
    stack,
    family,
    case
        when level = 'neuron' then 'neurons'
        when level = 'expert' then 'experts'
        else method || ' groups'
    end as units,
    avg(corrected_correlation) as correlation,
    avg(corrected_correlation - 2 * corrected_error) as low,
    avg(corrected_correlation + 2 * corrected_error) as high,
    avg(correlation) as uncorrected,
    avg(ceiling) as ceiling,
from stability_curves
where
    last_run_id = $run_id and reference = 'last' and list_contains($partitions, partition_id)
    and (level = 'neuron') = (partition_id = '*') and coalesce(family = $family, true)
group by step, stack, family, units
order by all
