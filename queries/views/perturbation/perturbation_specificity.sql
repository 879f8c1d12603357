-- perturbation_specificity: does perturbing a function's neurons impair that function, and only that one?
--
-- One row a dose and control; the doses of one study, selection and control are its dose curve. Means are over the
-- sources that are also read out as targets. n_damaged counts the sources that impair their own function more than the
-- control does, n_selective those that impair it more than the mean of all other functions, and
-- share_off_target_damaged is how often other functions are impaired. Only effects significant in perturbation_effects
-- count.
--
-- Grain: perturbation_id, selection, dose, control
-- Source: perturbation_effects, perturbation_means
-- Columns:
--   perturbation_id, run_id, model, revision, step, corpus, kind, scale, readout, metric
--   selection: how the neurons were chosen: functional, top or query
--   dose, control
--   n_sources: sources that are compared with the control and read out; other needs two sources that do not overlap
--   control_overlap: share of a source's neurons that the control's sets hold, mean over sources
--   control_energy_ratio: energy of the control's sets to that of the source's neurons, median over sources
--   effect_on_target: how much worse the own function's readout gets, mean over sources; NULL if no source is a target
--   control_effect_on_target: the control's effect on it, mean over sources; NULL likewise
--   difference_on_target: the first less the second; NULL likewise
--   difference_on_target_low: lower end of its 95% bootstrap interval, over texts
--   difference_on_target_high: upper end
--   difference_on_target_p_texts: paired permutation p over texts
--   effect_off_target: effect on all other functions, mean over sources and targets; NULL if there are none
--   difference_off_target: that less what the control does to them; NULL likewise
--   selectivity: difference on target less that on all other targets, mean over sources; NULL likewise
--   selectivity_low: lower end of its 95% bootstrap interval, over texts
--   selectivity_high, selectivity_p_texts, selectivity_p_functions
--   n_damaged: sources that impair their own function significantly more than the control does
--   n_selective: sources that impair their own function significantly more than the mean of all others
--   share_worst_own: share of sources that impair their own function most of all; NULL likewise
--   share_worst_source: share of the sources' functions that no other source impairs as much; NULL likewise
--   share_off_target_damaged: share of other functions impaired significantly more than by the control; NULL likewise
--   share_off_target_negligible: share of other functions on which the difference is negligible; NULL likewise
with placed as (
    select
        *,
        max(difference) filter (where not is_on_target) over (
            partition by
                perturbation_id, run_id, model, revision, step, selection, dose, control, source_family, source_function
        ) as worst_other_target,
        max(difference) filter (where not is_on_target) over (
            partition by
                perturbation_id, run_id, model, revision, step, selection, dose, control, target_family, target_function
        ) as worst_other_source,
        -- Sums go by place: in another order they would differ in their last digits.
        {
            'source_family': source_family,
            'source_function': source_function,
            'target_family': target_family,
            'target_function': target_function
        } as place,
    from perturbation_effects
    where selection in ('functional', 'top', 'query')
)

select
    perturbation_id,
    placed.run_id,
    placed.model,
    placed.revision,
    placed.step,
    placed.corpus,
    placed.kind,
    placed.scale,
    placed.readout,
    placed.metric,
    selection,
    dose,
    control,
    count(*) filter (where is_on_target) as n_sources,
    avg(control_overlap order by place) filter (where is_on_target) as control_overlap,
    median(control_energy_ratio) filter (where is_on_target) as control_energy_ratio,
    avg(effect order by place) filter (where is_on_target) as effect_on_target,
    avg(control_effect order by place) filter (where is_on_target) as control_effect_on_target,
    avg(placed.difference order by place) filter (where is_on_target) as difference_on_target,
    any_value(means.difference_low) as difference_on_target_low,
    any_value(means.difference_high) as difference_on_target_high,
    any_value(means.difference_p_texts) as difference_on_target_p_texts,
    avg(effect order by place) filter (where not is_on_target) as effect_off_target,
    avg(placed.difference order by place) filter (where not is_on_target) as difference_off_target,
    avg(placed.selectivity order by place) as selectivity,
    any_value(means.selectivity_low) as selectivity_low,
    any_value(means.selectivity_high) as selectivity_high,
    any_value(means.selectivity_p_texts) as selectivity_p_texts,
    any_value(means.selectivity_p_functions) as selectivity_p_functions,
    count(*) filter (where is_on_target and is_significant and placed.difference > 0) as n_damaged,
    count(*) filter (where is_selective) as n_selective,
    avg((placed.difference > worst_other_target)::integer) filter (where is_on_target) as share_worst_own,
    avg((placed.difference > worst_other_source)::integer) filter (where is_on_target) as share_worst_source,
    avg((is_significant and placed.difference > 0)::integer) filter (where not is_on_target) as share_off_target_damaged,
    avg(is_negligible::integer) filter (where not is_on_target) as share_off_target_negligible,
from placed
left join perturbation_means as means using (perturbation_id, selection, dose, control)
group by all
