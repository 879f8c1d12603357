-- report_routing: how much more often does the router choose a native expert for a function's instances than for others?
--
-- Parameters:
--   $run_id: the measurement
--   $family: the family, NULL for all
-- Columns:
--   stack, layer, native_expert, family, function: the cell
--   share_positive: share of a positive's tokens sent to the expert
--   share_negative: share of a negative's
--   difference: the first less the second
--   auroc: area under the ROC curve of the share
--   p_value: an upper bound of its two-sided normal p, exp(-z² / 2), with as many instances as texts, groups and words
--     leave independent
--   q_value: p_value after Benjamini-Hochberg, over all experts, layers and functions
with tested as (
    select
        run_id,
        stack,
        layer,
        native_expert,
        family,
        function,
        share_positive,
        share_negative,
        share_positive - share_negative as difference,
        auroc,
        n_positive + n_negative as n,
        exp(
            -((auroc - 0.5) ** 2) * 6 * n_positive * n_negative / (n + 1)
            * least(n, n_text_clusters, n_group_clusters, n_word_clusters) / n
        ) as p_value,
    from routing
    inner join run_functions using (run_id, family, function)
    where run_id = $run_id and coalesce(family = $family, true)
)

select * exclude (run_id, n)
from benjamini_hochberg('tested', p_value, run_id)
order by stack, layer, native_expert, family, function
