-- checkpoint_stability: how similar are the scores of neurons, experts and random groups at two checkpoints?
--
-- The paper's curve, layer by layer, but of living neurons and signed scores: Spearman's correlation, over the units of
-- a layer, between their scores for a function at one checkpoint and at another (function_stability), mean over the
-- functions of a family; paper_correlation is the paper's own. The mean of an expert's neurons has less noise than one
-- neuron, so the curve of experts is higher even if both change alike. ceiling is what the correlation would be if
-- nothing changed and each checkpoint had noise of its own. But the checkpoints are measured on the same instances and
-- share some noise: correlation may exceed ceiling, and their quotient corrects nothing. Halves a and b have no
-- instance in common, so half a of one checkpoint and half b of the other share no noise: corrected_correlation is made
-- of these. It is never clipped and may exceed 1 by chance. It is NULL unless both split halves correlate at .18 or
-- more, and at two standard errors or more of the correlation of as many units without signal. The four columns of
-- halves are means over the functions that have all of them.
--
-- Grain: last_run_id, run_id, reference, level, partition_id, stack, layer, family
-- Source: function_stability
-- Columns:
--   last_run_id, run_id, model, revision, step, corpus, reference, reference_run_id, reference_revision
--   reference_step, level, partition_id, partition_step, method, stack, layer, family
--   n_functions: functions with a correlation
--   n_units, n_dead
--   correlation: mean Spearman correlation of the units' scores at both, uncorrected; NULL if no function has one
--   split_half_correlation: mean Spearman correlation of the scores on half a and on half b, NULL likewise
--   reference_split_half_correlation
--   ceiling: square root of the product of both reliabilities (Spearman-Brown); NULL unless both are above 0
--   cross_half_correlation: mean correlation of half a of one with half b of the other, both ways; NULL likewise
--   corrected_correlation: cross_half_correlation / sqrt of the product of both split halves'; NULL if one is too low
--   paper_correlation: mean Spearman correlation of predictivity at both, of all neurons; NULL if no function has one
--   has_twin
with of_families as (
    select
        * exclude (
            function,
            n_units,
            n_dead,
            correlation,
            correlation_half_a,
            correlation_half_b,
            split_half_correlation,
            reference_split_half_correlation,
            cross_half_correlation,
            paper_correlation,
            is_halved
        ),
        count(correlation) as n_functions,
        max(n_units) as n_units,
        max(n_dead) as n_dead,
        avg(correlation order by function) as correlation,
        avg(split_half_correlation order by function) filter (where is_halved) as split_half,
        avg(reference_split_half_correlation order by function) filter (where is_halved) as reference_split_half,
        avg(cross_half_correlation order by function) filter (where is_halved) as cross_half,
        avg(paper_correlation order by function) as paper_correlation,
    from (
        select
            *,
            split_half_correlation + reference_split_half_correlation + cross_half_correlation
            is not null as is_halved,
        from function_stability
    )
    group by all
)

select
    last_run_id,
    run_id,
    model,
    revision,
    step,
    corpus,
    reference,
    reference_run_id,
    reference_revision,
    reference_step,
    level,
    partition_id,
    partition_step,
    method,
    stack,
    layer,
    family,
    n_functions,
    n_units,
    n_dead,
    correlation,
    split_half as split_half_correlation,
    reference_split_half as reference_split_half_correlation,
    noise_ceiling(split_half, reference_split_half) as ceiling,
    cross_half as cross_half_correlation,
    disattenuated(cross_half, split_half, reference_split_half, n_units - 1) as corrected_correlation,
    paper_correlation,
    has_twin,
from of_families
