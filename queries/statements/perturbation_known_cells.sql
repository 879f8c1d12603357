-- perturbation_known_cells: which cells were read by earlier studies, by the same version of neuronlake?
--
-- Parameters:
--   $version: the version of neuronlake
--   $cells: cell_ids wanted
-- Columns:
--   cell_id: the cell
--   perturbation_id: a study that has read it
select cell_id, any_value(perturbation_id) as perturbation_id
from (select distinct cell_id, perturbation_id from perturbations)
inner join perturbation_studies using (perturbation_id)
where neuronlake_version = $version and list_contains($cells, cell_id)
group by cell_id
