-- corpus_strata: how many instances of a corpus are in each stratum?
--
-- Parameters:
--   $corpus: the corpus
-- Columns:
--   stratum: the stratum, NULL of none
--   n: its instances
--   n_lemmas: distinct lemmas among them
select stratum, count(*) as n, count(distinct lemma) as n_lemmas,
from instances
where corpus = $corpus
group by stratum
order by n desc, stratum
