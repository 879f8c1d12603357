-- report_study: which study of a run is pictured, at which dose and beside which control?
--
-- The last, its largest dose and strictest control. One that reads out its sources comes before one that does not; of a
-- family, one that has sources of it.
--
-- Parameters:
--   $run_id: the run
--   $family: the family, NULL for all
-- Columns:
--   perturbation_id, selection, dose, control: the study
select
    perturbation_id,
    selection,
    dose,
    control,
from perturbation_specificity as study
inner join (select perturbation_id, started_at from perturbation_studies) using (perturbation_id)
where
    run_id = $run_id
    and (
        $family is null
        or exists (
            from perturbation_effects as effect
            where
                (effect.perturbation_id, effect.selection, effect.dose, effect.control)
                = (study.perturbation_id, study.selection, study.dose, study.control)
                and effect.source_family = $family
        )
    )
order by
    n_sources = 0,
    started_at desc,
    dose desc,
    list_position(['matched', 'random', 'nonfunctional', 'other', 'none'], control),
    selection
limit 1
