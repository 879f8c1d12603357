"""Columns that many tables begin with."""

from .declaration import Column, ColumnType

# The keys of a run, repeated in every table of measurements: a constant column costs nothing in Parquet,
# and lets a query filter on a model or a step without a join, skipping whole files.
RUN = (
    Column("run_id", "string", "the measurement: 16 hex digits of the digest of all that defines it"),
    Column("model", "string", "hub id or folder name, as given"),
    Column("revision", "string", "revision, branch or commit as given; main if none; random-<seed> if initialised"),
    Column("step", "int64", "training step of the revision, NULL when unknown", nullable=True),
)
NEURON = (
    Column("stack", "string", "encoder or decoder"),
    Column("layer", "int16", "0 at the embedding side, within its stack"),
    Column("neuron", "int32", "index within the layer"),
)
FUNCTION = (
    Column("family", "string", "function family: semantic, knowledge, task, grammar or the corpus's own"),
    Column("function", "string", "sub-function within the family"),
)


def measured(name: str, type_: ColumnType, description: str) -> Column:
    """Return a nullable column: every measurement of ours fills it, imported results may lack it."""
    return Column(name, type_, f"{description}; NULL if unknown, of imported results", nullable=True)
