"""When experts and neurons settle, over the checkpoints of a series."""
