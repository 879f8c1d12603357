-- emergence_scores: how do neurons of some layers score in a run of a series?
--
-- Parameters:
--   $runs: runs of the series
--   $run: the run
--   $stack: encoder or decoder
--   $layers: the layers
-- Columns:
--   layer, neuron: the neuron
--   place: of the function, as in emergence_functions
--   ap, ap_complement, ap_half_a, ap_complement_half_a, ap_half_b, ap_complement_half_b: the scores as stored
with functions as (
    select distinct
        family,
        function,
        (dense_rank() over (order by family, function) - 1)::int as place,
    from run_functions
    where run_id in $runs
)

select
    layer,
    neuron,
    place,
    ap,
    ap_complement,
    ap_half_a,
    ap_complement_half_a,
    ap_half_b,
    ap_complement_half_b,
from neuron_functions
inner join functions using (family, function)
where run_id = $run and stack = $stack and layer in $layers
