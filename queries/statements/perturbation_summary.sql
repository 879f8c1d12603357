-- perturbation_summary: what did a study find, at each dose, beside each control?
--
-- Parameters:
--   $study: the perturbation_id
-- Columns:
--   dose, control: the comparison
--   n_sources: functions whose neurons were ablated, beside other those that two sources do not overlap
--   on_target, off_target: mean effect on the source's own function, and on others
--   control_does: mean effect of the control on the source's own function
--   selectivity: how much more the own function is damaged than others, mean over sources
--   p_texts, p_functions: p values of the selectivity, over texts and over functions
--   n_damaged, n_selective: sources that damage their own function, and that do so selectively
--   overlap: share of a source's neurons that the control's sets hold
--   energy: energy of the control's sets to that of the source's neurons, median over sources
--   off_negligible: share of other functions on which the difference from the control is negligible
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
    round(control_overlap, 3) as overlap,
    round(control_energy_ratio, 2) as energy,
    round(share_off_target_negligible, 3) as off_negligible,
from perturbation_specificity
where perturbation_id = $study
order by dose, control
