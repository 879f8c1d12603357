-- perturbation_population: which neurons did a run measure, and how much does each write to the residual stream?
--
-- Parameters:
--   $run: the run_id
--   $stacks: stacks whose neurons are wanted
-- Columns:
--   stack, layer, neuron: the neuron
--   native_expert: its native expert, NULL if it has none
--   mean, std: of its pooled activation
--   energy: mean square of its pooled activation times the squared norm of its output weights
select
    stack,
    layer,
    neuron,
    native_expert,
    mean,
    std,
    (mean::double ** 2 + std::double ** 2) * output_norm::double ** 2 as energy,
from neurons
where run_id = $run and list_contains($stacks, stack)
order by stack, layer, neuron
