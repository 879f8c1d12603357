-- top_neurons: which 1% of a layer's neurons detect each function best?
--
-- By lift both directions count alike. The paper takes predictivity, which is nearly always that of the commoner class
-- where classes are unbalanced: the two lists share little then. With balanced classes they are the same.
--
-- Ranked
-- Grain: run_id, stack, layer, family, function, rank
-- Source: top_lists
-- Columns:
--   run_id, model, revision, step, stack, layer, family, function
--   rank: 1 for the neuron that ranks highest; ties go to the lower index
--   neuron, predictivity, lift, direction
--   n_top: neurons listed: 1% of the layer's, rounded down, at least 1
with ranked as (
    select
        * exclude (top),
        unnest(top) as chosen,
        generate_subscripts(top, 1) as rank,
    from top_lists_by(ranking)
)

select
    run_id,
    model,
    revision,
    step,
    stack,
    layer,
    family,
    function,
    rank,
    chosen.neuron as neuron,
    chosen.predictivity as predictivity,
    chosen.lift as lift,
    chosen.direction as direction,
    n_top,
from ranked
