-- emergence_functions: of which functions did the runs of a series measure scores, and what is chance for them?
--
-- Parameters:
--   $runs: runs of the series
-- Columns:
--   run_id, family, function: the run and the function
--   place: of the function, among those of all the runs by family and name, from 0
--   prevalence, prevalence_half_a, prevalence_half_b: share of positives, .5 where it is unknown
select
    run_id,
    family,
    function,
    dense_rank() over (order by family, function) - 1 as place,
    coalesce(prevalence, 0.5) as prevalence,
    coalesce(n_positive_half_a / nullif(n_positive_half_a + n_negative_half_a, 0), 0.5) as prevalence_half_a,
    coalesce(n_positive_half_b / nullif(n_positive_half_b + n_negative_half_b, 0), 0.5) as prevalence_half_b,
from run_functions
where run_id in $runs
order by run_id, place
