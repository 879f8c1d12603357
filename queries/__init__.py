"""SQL over a store: the DuckDB database, its views and macros, and how rows are shown.

Read in this order: `catalog` (what tables and views are; views/, macros.sql), `database` (SQL over a store), `readonly`
and `parse_tree` (what a statement may do, what it names and implies), `result` (its rows, or why it failed), `output`
(the rows as text and files), `shell` (the prompt), `cache` (rows of views kept on disk), `status` (what a store holds
and lacks), `statements` (the SQL that Python code runs; statements/), `quoting`.
"""
