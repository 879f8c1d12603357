-- perturbation_summary: did a study's perturbations impair their own functions, and only those?
--
-- One row a dose and control, of perturbation_specificity.
--
-- Parameters:
--   $study: perturbation_id of the study
-- Columns:
--   dose: share of the layers' neurons
--   control: what the perturbation is compared with
--   n_sources: sources that are read out as targets too
--   on_target: how much worse the own function's readout gets, mean over sources
--   control_does: the control's effect on it
--   off_target: effect on all other functions
--   selectivity: difference from the control on target less that on all other targets
--   p_texts: permutation p of the selectivity over texts
--   p_functions: permutation p of the selectivity over functions
--   n_damaged: sources that impair their own function significantly more than the control does
--   n_selective: sources that impair it significantly more than the mean of all others
select
    dose,
    control,
    n_sources,
    round(effect_on_target, 4) as on_target,
    round(control_effect_on_target, 4) as control_does,
    round(effect_off_target, 4) as off_target,
    round(selectivity, 4) as selectivity,
    selectivity_p_texts as p_texts,
    selectivity_p_functions as p_functions,
    n_damaged,
    n_selective,
from perturbation_specificity
where perturbation_id = $study
order by dose, control
