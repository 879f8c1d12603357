-- perturbation_summary: what did a study find, at each dose, beside each control?
--
-- Parameters:
--   $study: the perturbation_id
-- Columns:
--   dose, control: the comparison
--   n_sources: functions whose neurons were ablated, beside other those that two sources do not overlap
--   overlap: share of a source's neurons that the control's sets hold
--   on_target, off_target: mean effect on the source's own function, and on others
--   control_does: mean effect of the control on the source's own function
--   selectivity: how much more the own function is damaged than others, mean over sources
--   p_texts, p_functions: p values of the selectivity, over texts and over functions
--   off_negligible: share of other functions on which the difference from the control is negligible
--   n_damaged, n_selective: sources that damage their own function, and that do so selectively
select
    dose,
    control,
    n_sources,
    round(control_overlap, 3) as overlap,
    round(effect_on_target, 4) as on_target,
    round(control_effect_on_target, 4) as control_does,
    round(effect_off_target, 4) as off_target,
    round(selectivity, 4) as selectivity,
    selectivity_p_texts as p_texts,
    selectivity_p_functions as p_functions,
    round(share_off_target_negligible, 3) as off_negligible,
    n_damaged,
    n_selective,
from perturbation_specificity
where perturbation_id = $study
order by dose, control
