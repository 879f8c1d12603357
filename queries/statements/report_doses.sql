-- report_doses: how does the effect of ablating a function's neurons grow with the dose, beside each control?
--
-- Parameters:
--   $perturbation_id: the study
--   $selection: how the neurons were chosen
--   $family: NULL, as means are of all sources: of one family there are no rows
-- Columns:
--   control: what the neurons are compared with
--   dose: share of the layers' neurons that were ablated
--   functions: own function, or other functions
--   difference: how much worse these are read out than with the control's neurons ablated, mean over sources
--   low, high: its 95% interval; NULL of other functions
--   effect: the effect itself
--   control_effect: that of the control's neurons
--   selectivity: the difference of the own function less that of others; NULL of other functions
--   selectivity_low, selectivity_high: its 95% interval; NULL likewise
--   selectivity_p_texts, selectivity_p_functions: its p values over texts, and over functions; NULL likewise
--   n_sources: functions whose neurons were ablated
--   n_selective: of these, those that harm their own function significantly more than others
select
    control,
    dose,
    'own function' as functions,
    difference_on_target as difference,
    difference_on_target_low as low,
    difference_on_target_high as high,
    effect_on_target as effect,
    control_effect_on_target as control_effect,
    selectivity,
    selectivity_low,
    selectivity_high,
    selectivity_p_texts,
    selectivity_p_functions,
    n_sources,
    n_selective,
from perturbation_specificity
where
    perturbation_id = $perturbation_id and selection = $selection and $family is null
    and difference_on_target is not null
union all by name
select
    control,
    dose,
    'other functions' as functions,
    difference_off_target as difference,
    effect_off_target as effect,
    n_sources,
    n_selective,
from perturbation_specificity
where
    perturbation_id = $perturbation_id and selection = $selection and $family is null
    and difference_off_target is not null
order by control, dose, functions desc
