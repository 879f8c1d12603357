-- card_neuron_controls: how much of what a neuron detects best do control functions explain?
--
-- Parameters:
--   $run_id: the measurement
--   $stack: encoder or decoder
--   $layer: the layer
--   $neuron: the neuron
-- Columns:
--   name: its best function, by evidence
--   lift: the lift of that function
--   control_lift: lift of its best control function, on the scale of its function; texts or words keep their labels
--   selectivity: lift - control_lift
--   control_q_value: share of the family's neurons that reach as far as this one that controls explain
select
    family || '/' || function as name,
    lift,
    control_lift,
    selectivity,
    control_q_value,
from specialization
where run_id = $run_id and stack = $stack and layer = $layer and neuron = $neuron and control_lift is not null
