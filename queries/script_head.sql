-- Views over a neuronlake store, for any DuckDB client: paste it, or .read it.
-- The next line says where the store lies, and views ask it each time they are read: where that is elsewhere, or a path
-- from the working directory, change it; in another session of a database that keeps the views, run it again.
-- The files are those committed now: after an ingest, run 'neuronlake tables --sql' anew.
set variable store = {store};
