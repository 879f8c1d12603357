-- stored_corpora: which corpora may be named?
--
-- Columns:
--   corpus: its name
--   description: what it is
select corpus, coalesce(description, '') as description,
from corpora
order by all
