-- report_perturbation: what does ablating a function's neurons do to each function, beyond what a control does?
--
-- Parameters:
--   $perturbation_id: the study
--   $selection: how the neurons were chosen
--   $dose: the dose
--   $control: the control
--   $family: family of the source, NULL for all
-- Columns:
--   dose, control: the dose and the control
--   source_family, source: the function whose neurons were ablated
--   target_family, target: the function that was read out
--   is_on_target: whether they are the same
--   is_readable: whether the target is read above chance at all
--   difference: how much worse the target is read out, less what the control does
--   difference_low, difference_high: its 95% interval
--   q_value: of the difference
--   is_significant: whether q_value is at most .05
select
    dose,
    control,
    source_family,
    source_function as source,
    target_family,
    target_function as target,
    is_on_target,
    coalesce(is_readable, true) as is_readable,
    difference,
    difference_low,
    difference_high,
    q_value,
    is_significant,
from perturbation_effects
where
    perturbation_id = $perturbation_id and selection = $selection and dose = $dose and control = $control
    and coalesce(source_family = $family, true)
order by all
