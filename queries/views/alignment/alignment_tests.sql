-- alignment_tests: which experts hold more top neurons than when neurons are permuted among experts?
--
-- The tests of `neuronlake align`, with q values over the experts, layers and functions (or families) tested together.
-- The null model free permutes all neurons of the layer; matched permutes neurons only among those of similar norm and
-- firing rate, so that these alone cannot make an expert significant; control-word and others compare with functions
-- whose labels were permuted, so that what labels without meaning do is not significant either. Experts made of scores
-- on a half of another kind than the run's (by word, by text) are made of instances of both of its halves: their
-- partition_half is all.
--
-- Grain: alignment_id, null_model, half, stack, layer, expert, family, function
-- Source: alignments, partitions, runs
-- Columns:
--   alignment_id, run_id, model, revision, step
--   ranking: what chose the top neurons: lift, or predictivity, which is the paper's
--   partition_id, method
--   partition_half: instances whose scores made the experts (all, a or b): tests on them are circular; NULL if none did
--   null_model, half, stack, layer, expert
--   level: function or family
--   family, function, n_neurons, n_top, n_expected
--   enrichment: n_top / n_expected, NULL where nothing is expected
--   control_enrichment: n_expected under the control that expects most, over that of the null model free; NULL without any
--   selectivity: n_top over what the null model free expects, less control_enrichment
--   p_value
--   smallest_p
--   q_value: p_value after Benjamini-Hochberg, over the tests of one alignment, null, half and level
--   is_significant: q_value <= .05
--   p_nominal, n_permutations
with tests as (
    select
        * replace (coalesce(ranking, 'lift') as ranking),
        case function when '*' then 'family' else 'function' end as level,
        max(n_expected) filter (where starts_with(null_model, 'control-')) over same_test as n_control,
        max(n_expected) filter (where null_model = 'free') over same_test as n_free,
    from alignments
    window same_test as (
        partition by run_id, alignment_id, partition_id, half, stack, layer, expert, family, function
    )
)

select
    alignment_id,
    tests.run_id,
    tests.model,
    tests.revision,
    tests.step,
    ranking,
    partition_id,
    partitions.method,
    case
        when partitions.half = 'a' and coalesce(makers.halves, 'text') != coalesce(runs.halves, 'text') then 'all'
        else partitions.half
    end as partition_half,
    null_model,
    tests.half,
    stack,
    layer,
    expert,
    level,
    family,
    function,
    n_neurons,
    n_top,
    n_expected,
    n_top / nullif(n_expected, 0) as enrichment,
    n_control / nullif(n_free, 0) as control_enrichment,
    (n_top - n_control) / nullif(n_free, 0) as selectivity,
    p_value,
    smallest_p,
    q_value,
    q_value <= 0.05 as is_significant,
    p_nominal,
    n_permutations,
from benjamini_hochberg('tests', p_value, run_id, alignment_id, partition_id, null_model, half, level) as tests
inner join partitions using (partition_id)
left join runs on runs.run_id = tests.run_id
left join runs as makers on makers.run_id = partitions.run_id
