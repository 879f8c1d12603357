-- corpus_functions: which functions does a corpus have?
--
-- Parameters:
--   $corpus: the corpus
-- Columns:
--   family, function: the function, and all that is stored of it
select * exclude (corpus),
from functions
where corpus = $corpus
order by family, function
