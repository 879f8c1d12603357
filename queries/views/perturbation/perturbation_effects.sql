-- perturbation_effects: what does perturbing a function's neurons do to each function, more than a control does?
--
-- The contrasts of `neuronlake perturb`. The p value is the larger of two, so that it holds for other texts and for
-- other control sets. The q values (Benjamini and Hochberg) are over the sources, targets and doses of one study,
-- selection and control, on target and off target apart. Rows whose selection is itself a control (random, matched,
-- nonfunctional) compare the controls with the model as it is.
--
-- Grain: perturbation_id, source_family, source_function, selection, dose, control, target_family, target_function
-- Source: perturbation_contrasts, perturbation_studies, perturbations
-- Columns:
--   perturbation_id
--   run_id: the measurement the selection comes from
--   model, revision, step, corpus, kind, scale, readout, metric, source_family, source_function, selection, dose
--   n_neurons: neurons perturbed, mean over seeds
--   energy_share: their share of the studied layers' energy, mean over seeds
--   control, target_family, target_function, is_on_target, is_readable, n_sets, n_control_sets, control_overlap, control_energy_ratio
--   effect: how much worse the readout gets, mean over the sets; below 0 if better
--   control_effect, difference, difference_low, difference_high
--   difference_bound: the larger distance of both ends from 0: the effect is negligible for any margin above it
--   margin: smallest effect of interest, in the readout's unit: .02 of an accuracy, .05 nats a token of a loss
--   is_negligible: difference_bound < margin: the 95% interval lies within the margin, significant or not
--   p_texts
--   p_sets: Student p among the control sets, NULL where there are fewer than two
--   p_value: the larger of both
--   q_value: p_value after Benjamini-Hochberg
--   is_significant: q_value <= .05
--   selectivity, selectivity_low, selectivity_high
--   selectivity_p_value: the larger of its p over texts and its p among the control sets
--   selectivity_q_value: selectivity_p_value after Benjamini-Hochberg
--   is_selective: selectivity_q_value <= .05 and selectivity > 0; NULL off target
with selections as (
    select
        perturbation_id,
        model,
        revision,
        source_family,
        source_function,
        selection,
        dose,
        avg(n_neurons) as n_neurons,
        avg(energy_share) as energy_share,
    from perturbations
    group by all
),

tested as (
    select
        *,
        greatest(p_texts, coalesce(p_sets, p_texts)) as p_value,
        greatest(selectivity_p_texts, coalesce(selectivity_p_sets, selectivity_p_texts)) as selectivity_p_value,
    from perturbation_contrasts
),

of_selectivity as (
    select * rename (q_value as selectivity_q_value)
    from benjamini_hochberg(
        'tested', selectivity_p_value, perturbation_id, model, revision, step, selection, control, is_on_target
    )
)

select
    perturbation_id,
    run_id,
    model,
    revision,
    step,
    corpus,
    kind,
    scale,
    readout,
    metric,
    source_family,
    source_function,
    selection,
    dose,
    n_neurons,
    energy_share,
    control,
    target_family,
    target_function,
    is_on_target,
    is_readable,
    n_sets,
    n_control_sets,
    control_overlap,
    control_energy_ratio,
    effect,
    control_effect,
    difference,
    difference_low,
    difference_high,
    greatest(abs(difference_low), abs(difference_high)) as difference_bound,
    if(readout = 'loss', 0.05, 0.02)::double as margin,
    difference_bound < margin as is_negligible,
    p_texts,
    p_sets,
    p_value,
    q_value,
    q_value <= 0.05 as is_significant,
    selectivity,
    selectivity_low,
    selectivity_high,
    selectivity_p_value,
    selectivity_q_value,
    selectivity_q_value <= 0.05 and selectivity > 0 as is_selective,
from benjamini_hochberg(
    'of_selectivity', p_value, perturbation_id, model, revision, step, selection, control, is_on_target
)
inner join (
    select perturbation_id, run_id, model, revision, corpus, kind, scale, readout, metric
    from perturbation_studies
) as studies using (perturbation_id, model, revision)
left join selections
    using (perturbation_id, model, revision, source_family, source_function, selection, dose)
