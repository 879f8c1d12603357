-- card_expert_texts: which texts are among the top texts of most of an expert's neurons?
--
-- Parameters:
--   $run_id: the measurement
--   $partition_id: the partition
--   $stack: encoder or decoder
--   $layer: the layer
--   $expert: the expert
--   $n_texts: most texts that are listed
-- Columns:
--   n_neurons: neurons of the expert that have the text among their top
--   text: the text, the span of the instance in brackets
with counts as (
    select corpus, instance_id, count(*) as n_neurons
    from experts
    inner join top_instances using (stack, layer, neuron)
    where
        top_instances.run_id = $run_id and partition_id = $partition_id
        and stack = $stack and layer = $layer and expert = $expert
    group by all
)

select n_neurons, excerpt(texts.text, instances.start_char, instances.end_char, 110) as text,
from counts
inner join instances using (corpus, instance_id)
inner join texts using (corpus, text_id)
order by n_neurons desc, corpus, instance_id
limit $n_texts
