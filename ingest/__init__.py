"""From a corpus and a model to Parquet: read, run, pool, score, commit."""
