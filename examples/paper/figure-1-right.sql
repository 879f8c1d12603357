-- Share of the top 96th of a layer's neurons, by predictivity, that two functions have in common: within a family and
-- between two, by layer; x is null for the mean over layers.
with layers as (
    select
        model,
        revision like 'random-%' as is_random,
        if(family_a = family_b, 'within ' || family_a, family_a || ' - ' || family_b) as quantity,
        layer as x,
        overlap,
        chance,
    from family_similarity_by('predictivity')
    where stack = 'encoder'
)

select
    model,
    quantity,
    x,
    avg(overlap) filter (where not is_random) as ours,
    avg(chance) filter (where not is_random) as control,
    avg(overlap) filter (where is_random) as random_initialisation,
from layers
group by grouping sets ((model, quantity, x), (model, quantity))
order by all
