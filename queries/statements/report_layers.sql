-- report_layers: how well do a layer's neurons detect a family on the half that did not choose them, trained or not?
--
-- Reads function_map: the rows of report_function_map.
--
-- Parameters:
--   $run_id: the measurement
--   $random_run_id: its random initialisation, NULL if there is none
--   $weights: what the weights of run_id are: trained or random initialisation
--   $family: the family of a neuron's best function, NULL for any
-- Columns:
--   stack, layer, family: the layer and family
--   measured: trained, random initialisation or control
--   lift: held-out lift of the neuron of a function, mean over functions
--   low, high: two standard errors over functions below and above it; NULL of a single function
--   n_functions: functions averaged
--   n_neurons: neurons of the run, over all layers; with $family those whose best function is of it; NULL of controls
--   n_significant: of these, with q <= .05
--   n_selective: of these, more specialised than control functions explain; NULL without controls
select
    stack,
    layer,
    family,
    measured,
    avg(measured_lift) as lift,
    lift - 2 * stddev_samp(measured_lift) / sqrt(count(*)) as low,
    lift + 2 * stddev_samp(measured_lift) / sqrt(count(*)) as high,
    count(*) as n_functions,
    any_value(n_neurons) as n_neurons,
    any_value(n_significant) as n_significant,
    any_value(n_selective) as n_selective,
from (
    select
        stack,
        layer,
        family,
        unnest(
            [
                {'measured': $weights, 'measured_lift': held_out_lift},
                {'measured': 'random initialisation', 'measured_lift': random_lift},
                {'measured': 'control', 'measured_lift': control_lift},
            ],
            recursive := true
        ),
    from function_map
)
left join (
    select
        if(run_id = $run_id, $weights, 'random initialisation') as measured,
        count(*) as n_neurons,
        count(*) filter (is_significant) as n_significant,
        if(count(is_selective) = 0, null, count(*) filter (is_significant and is_selective)) as n_selective,
    from specialization
    where run_id in ($run_id, $random_run_id) and coalesce(family = $family, true)
    group by all
) using (measured)
where measured_lift is not null
group by all
order by all
