-- card_expert_functions: which functions and families is an expert functional for?
--
-- Parameters:
--   $run_id: the measurement
--   $partition_id: the partition
--   $stack: encoder or decoder
--   $layer: the layer
--   $expert: the expert
-- Columns:
--   name: family and function, or the family with all its functions
--   n_top: top neurons of the function in the expert
--   n_expected: how many chance would give
--   enrichment: n_top / n_expected
--   control_enrichment: that of control functions, whose labels are permuted; NULL without any
--   p_value: hypergeometric P(X >= n_top)
--   q_value: p_value adjusted for all tests of the run and partition
select
    if(level = 'family', family || ' (all functions)', family || '/' || function) as name,
    n_top,
    n_expected,
    enrichment,
    control_enrichment,
    p_value,
    q_value,
from functional_experts
where run_id = $run_id and partition_id = $partition_id and stack = $stack and layer = $layer and expert = $expert
order by level desc, p_value, family, function
