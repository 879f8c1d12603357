-- report_families: which share of their top neurons do two functions have in common, trained and at random?
--
-- Parameters:
--   $run_id: the measurement
--   $random_run_id: its random initialisation, NULL if there is none
--   $family: a family that either function is of, NULL for any
-- Columns:
--   family_a, function_a, family_b, function_b: the pair
--   overlap: share of top neurons in common, mean over layers
--   random_overlap: the same at random initialisation; NULL without
--   chance: the same of unrelated functions
select
    family_a,
    function_a,
    family_b,
    function_b,
    avg(overlap) filter (where run_id = $run_id) as overlap,
    avg(overlap) filter (where run_id = $random_run_id) as random_overlap,
    avg(chance) filter (where run_id = $run_id) as chance,
from function_similarity
where run_id in ($run_id, $random_run_id) and coalesce(family_a = $family or family_b = $family, true)
group by all
order by all
