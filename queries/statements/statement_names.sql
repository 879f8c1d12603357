-- statement_names: which tables, schemas and functions does a statement name?
--
-- Parameters:
--   $query: the statement
-- Columns:
--   has_no_tree: whether DuckDB gives no tree of it, as of a PIVOT
--   shows_tables: whether it lists what the database holds
--   names: the names, as the statement spells them
--
-- A path at a time: DuckDB takes no list of paths with wildcards.
select
    tree ->> '$.error' = 'true' as has_no_tree,
    len(list_intersect(json_extract_string(tree, '$..show_type'), ['SHOW_SPECIAL', 'SHOW_FROM'])) > 0 as shows_tables,
    list_concat(
        json_extract_string(tree, '$..table_name'),
        json_extract_string(tree, '$..schema_name'),
        json_extract_string(tree, '$..function_name'),
        json_extract_string(tree, '$..function..text')
    ) as names,
from (select json_serialize_sql($query) as tree)
