-- emergence_scores: how do neurons of some layers score in a run of a series?
--
-- Parameters:
--   $functions: a struct a function: its names, and its place in emergence_functions
--   $run: the run
--   $stack: encoder or decoder
--   $layers: the layers
-- Columns:
--   layer, neuron: the neuron
--   place: of the function
--   ap, ap_complement, ap_half_a, ap_complement_half_a, ap_half_b, ap_complement_half_b: the scores as stored
with functions as (
    select unnest(cast($functions as struct(family varchar, function varchar, place int) []), recursive := true),
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
