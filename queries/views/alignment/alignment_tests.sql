-- alignment_tests: which experts hold more top neurons than when neurons are permuted among experts?
--
-- The tests of `neuronlake align`, with q values over the experts, layers and functions (or families) tested together.
-- The null model free permutes all neurons of the layer; matched permutes neurons only among those of similar norm and
-- firing rate, so that these alone cannot make an expert significant. Experts made of scores on a half of another kind
-- than the run's (by word, by text) are made of instances of both of its halves: their partition_half is all.
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
--   p_value
--   q_value: p_value after Benjamini-Hochberg, over the tests of one alignment, null, half and level
--   is_significant: q_value <= .05
--   p_nominal, n_permutations
with tests as (
    select
        * replace (coalesce(ranking, 'lift') as ranking),
        case function when '*' then 'family' else 'function' end as level,
    from alignments
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
    p_value,
    q_value,
    q_value <= 0.05 as is_significant,
    p_nominal,
    n_permutations,
from benjamini_hochberg('tests', p_value, run_id, alignment_id, partition_id, null_model, half, level) as tests
inner join partitions using (partition_id)
left join runs on runs.run_id = tests.run_id
left join runs as makers on makers.run_id = partitions.run_id
