-- statement_sources: which tables and views does a query read, and what does it call its own parts?
--
-- Parameters:
--   $query: the query
-- Columns:
--   tables: names after FROM and JOIN, those of its CTEs among them
--   ctes: names of its CTEs
select
    json_extract_string(tree, '$..table_name') as tables,
    json_extract_string(tree, '$..cte_map.map[*].key') as ctes,
from (select json_serialize_sql($query) as tree)
