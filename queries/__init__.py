"""SQL over a store: the DuckDB database, its macros and its views."""
