-- Predictivity of the best neuron for a function, mean over a family's functions, by layer; x is null for the mean over
-- layers. Held out: chosen on one half of the texts, scored on the other. Permuted labels: control functions.
with layers as (
    select
        model,
        revision like 'random-%' as is_random,
        family as quantity,
        layer as x,
        best_predictivity,
        held_out_predictivity,
        control_predictivity,
        chance,
    from best_predictivity
    where stack = 'encoder'
)

select
    model,
    quantity,
    x,
    avg(best_predictivity) filter (where not is_random) as ours,
    avg(best_predictivity) filter (where is_random) as control,
    avg(held_out_predictivity) filter (where not is_random) as held_out,
    avg(held_out_predictivity) filter (where is_random) as control_held_out,
    avg(control_predictivity) filter (where not is_random) as permuted_labels,
    avg(chance) as chance,
from layers
group by grouping sets ((model, quantity, x), (model, quantity))
order by all
