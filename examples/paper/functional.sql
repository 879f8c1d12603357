-- The native experts that hold more of a task's top neurons than chance allows, chosen on half a of the texts.
select
    split_part(function, '-', 1) as task,
    layer,
    list(distinct expert order by expert) as experts,
from alignment_tests
where
    run_id = $run
    and partition_id = $partition
    and ranking = 'predictivity'
    and level = 'function'
    and family = 'task'
    and null_model = 'free'
    and half = 'a'
    and p_value <= $p
    and layer >= $first
group by all
order by all
