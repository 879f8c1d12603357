-- functional_experts: which experts specialise in a function or a family?
--
-- Those whose p value is at most .001, as in the paper: of hundreds of experts and functions some are by chance.
-- is_significant says which stay when the false discovery rate is held at .05.
--
-- Grain: run_id, partition_id, stack, layer, expert, level, family, function
-- Source: expert_function_alignment, expert_family_alignment
-- Columns:
--   run_id: the measurement
--   model: hub id or folder name, as given
--   revision: revision of the model
--   step: training step of the revision, NULL when unknown
--   partition_id: the partition
--   partition_revision: revision whose neurons it partitions
--   method: how it was made
--   partition_half: instances whose scores made the experts (all, a or b): tests on them are circular; NULL if none did
--   n_experts: experts of the layer
--   stack: encoder or decoder
--   layer: 0 at the embedding side, within its stack
--   expert: index of the expert within its layer
--   level: function, or family: the top lists of all its functions together
--   family: function family
--   function: sub-function within the family, * at family level
--   n_neurons: neurons of the expert
--   n_top: top neurons among them; at family level entries of the top lists
--   n_expected: their mean if neurons were dealt to experts at random
--   enrichment: n_top / n_expected
--   p_value: hypergeometric P(X >= n_top); at family level of distinct neurons
--   q_value: p_value adjusted for all tests of the level in the run and partition
--   is_significant: whether q_value is at most .05
select
    run_id,
    model,
    revision,
    step,
    partition_id,
    partition_revision,
    method,
    partition_half,
    n_experts,
    stack,
    layer,
    expert,
    'function' as level,
    family,
    function,
    n_neurons,
    n_top,
    n_expected,
    enrichment,
    p_value,
    q_value,
    is_significant,
from expert_function_alignment
where is_functional
union all
select
    run_id,
    model,
    revision,
    step,
    partition_id,
    partition_revision,
    method,
    partition_half,
    n_experts,
    stack,
    layer,
    expert,
    'family' as level,
    family,
    '*' as function,
    n_neurons,
    n_top,
    n_expected,
    enrichment,
    p_value,
    q_value,
    is_significant,
from expert_family_alignment
where is_functional
