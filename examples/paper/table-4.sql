-- How many times more top neurons than chance functional experts hold, 0 where none is functional, by layer; x is null for the mean over layers.
-- Functions one by one by the hypergeometric test, as the paper; a family as a whole by the paper's binomial test of its
-- pooled lists, and by the exact test of its distinct neurons.
with families as (
    select
        model,
        method,
        partition_id,
        family,
        layer,
        coalesce(avg(enrichment) filter (where is_functional_binomial), 0) as paper,
        coalesce(avg(enrichment) filter (where is_functional), 0) as exact,
    from expert_family_alignment_by('predictivity')
    where stack = 'encoder' and revision not like 'random-%' and n_experts = 16
    group by all
),

layers as (
    select
        model,
        'functions of ' || family as quantity,
        layer as x,
        degree as ours,
        random_degree as control,
        control_degree as permuted_labels,
        null as exact_test,
    from modularization_by('predictivity')
    where
        stack = 'encoder' and revision not like 'random-%' and n_experts = 16 and method in ('kmeans', 'native')
    union all by name
    select
        model,
        family || ' as a whole' as quantity,
        layer as x,
        avg(paper) filter (where method in ('kmeans', 'native')) as ours,
        avg(paper) filter (where method = 'random') as control,
        avg(exact) filter (where method in ('kmeans', 'native')) as exact_test,
    from families
    group by all
)

select
    model,
    quantity,
    x,
    avg(ours) as ours,
    avg(control) as control,
    avg(permuted_labels) as permuted_labels,
    avg(exact_test) as exact_test,
from layers
group by grouping sets ((model, quantity, x), (model, quantity))
order by all
