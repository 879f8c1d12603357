-- report_routing: how much more often does the router choose a native expert for a function's instances than for others?
--
-- Parameters:
--   $run_id: the measurement
--   $random_run_id: its random initialisation, NULL if there is none
--   $family: the family, NULL for all
-- Columns:
--   stack, layer, native_expert, family, function: the cell
--   share_positive: share of a positive's tokens sent to the expert
--   share_negative: share of a negative's
--   difference: the first less the second
--   random_difference: the same of the router at random initialisation; NULL without
--   auroc: area under the ROC curve of the share
--   p_value: an upper bound of its two-sided normal p, exp(-z² / 2), with as many instances as texts, groups and words
--     leave independent
--   q_value: p_value after Benjamini-Hochberg, over all experts, layers and functions
with tested as (
    select
        routing.run_id,
        stack,
        layer,
        native_expert,
        family,
        function,
        routing.share_positive,
        routing.share_negative,
        routing.share_positive - routing.share_negative as difference,
        random.share_positive - random.share_negative as random_difference,
        routing.auroc,
        n_positive + n_negative as n,
        exp(
            -((routing.auroc - 0.5) ** 2) * 6 * n_positive * n_negative / (n + 1)
            * least(n, n_text_clusters, n_group_clusters, n_word_clusters) / n
        ) as p_value,
    from routing
    inner join run_functions using (run_id, family, function)
    left join
        (select * exclude (run_id) from routing where run_id = $random_run_id) as random
        using (stack, layer, native_expert, family, function)
    where routing.run_id = $run_id and coalesce(family = $family, true)
)

select * exclude (run_id, n)
from benjamini_hochberg('tested', p_value, run_id)
order by stack, layer, native_expert, family, function
