"""The table of what a merge of stores found twice."""

from .declaration import Column, ColumnType, Table


def _stated(name: str, type_: ColumnType, description: str) -> Column:
    return Column(name, type_, f"{description}; NULL if the copy does not state it", nullable=True)


TABLES = (
    Table.of(
        "merged_copies",
        ("job", "copy_digest"),
        "one copy of a job that a merge found beside the one it kept: made elsewhere, and equal but for rounding",
        Column("job", "string", "the job, as its commit names it: a run_id, the id of a partition, corpus-<name>"),
        Column("copy_digest", "string", "16 hex digits of the digest of the copy's paths and sha256"),
        Column("neuronlake_version", "string", "version of neuronlake that made the copy"),
        _stated("device", "string", "device of the forward pass"),
        _stated("torch_version", "string", "version of torch"),
        _stated("transformers_version", "string", "version of transformers"),
        _stated("python_version", "string", "version of Python"),
        _stated("source", "string", "where it was read from"),
        _stated("started_at", "timestamp", "when it was started"),
        _stated("duration_s", "float64", "wall time, in seconds"),
    ),
)
