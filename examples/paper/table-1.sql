-- Share of a layer's experts that are functional, by layer; x is null for the mean over layers.
-- Functions one by one by the hypergeometric test, as the paper; a family as a whole by the paper's binomial test of its
-- pooled lists, and by the exact test of its distinct neurons.
with families as (
    select
        model,
        method,
        partition_id,
        family,
        layer,
        avg(is_functional_binomial::integer) as paper,
        avg(is_functional::integer) as exact,
    from expert_family_alignment_by('predictivity')
    where stack = 'encoder' and revision not like 'random-%' and n_experts = 16
    group by all
),

layers as (
    select
        model,
        'functions of ' || family as quantity,
        layer as x,
        proportion as ours,
        random_proportion as control,
        control_proportion as permuted_labels,
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
