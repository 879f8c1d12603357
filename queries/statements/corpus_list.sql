-- corpus_list: which corpora does a store have?
--
-- Columns:
--   corpus: its name
--   description: what it is
--   n_texts, n_instances: its size
--   licence, source: where it is from
select corpus, description, n_texts, n_instances, licence, source,
from corpora
order by corpus
