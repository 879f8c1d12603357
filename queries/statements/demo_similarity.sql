-- demo_similarity: do functions of one family share their top neurons, more than functions of two families?
--
-- Parameters:
--   $trained: run of the pretrained weights
--   $random: run of the random initialisation
-- Columns:
--   families: the family, or the two
--   trained: share of top neurons that two functions have in common, mean over pairs and layers
--   random: the same at random initialisation
--   chance: what chance gives
--   times_chance: trained / chance
select
    if(family_a = family_b, 'within ' || family_a, family_a || ' – ' || family_b) as families,
    avg(overlap) filter (where run_id = $trained) as trained,
    avg(overlap) filter (where run_id = $random) as random,
    avg(chance) as chance,
    round(trained / avg(chance), 1) as times_chance,
from family_similarity
where run_id in ($trained, $random)
group by family_a, family_b
order by family_a <> family_b, family_a, family_b
