-- perturbation_cell_values: which values were read in some cells of earlier studies, where they differ from the baseline?
--
-- Parameters:
--   $keys: the cells, each a perturbation_id followed by a cell_id
-- Columns:
--   cell_id: the cell
--   target_family, target_function: the function read out, * and * where the value is that of all functions
--   instance_id: the instance
--   value: what was read
select cell_id, target_family, target_function, instance_id, value
from perturbed_instances
where list_contains($keys, perturbation_id || cell_id)
