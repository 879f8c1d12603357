"""SQL that defines the view of a table, and that tells what views and their columns mean."""

from ..schema.tables import TABLES, Table
from . import catalog, quoting

__all__ = ["comments", "scan", "table_query"]


def table_query(table: Table, files: str, columns: frozenset[str]) -> str:
    """Return SQL that reads a table: exactly the declared columns, NULL where no file has them yet.

    Parameters
    ----------
    table
        The declaration.
    files
        SQL of the list of its files.
    columns
        The columns that at least one of them has; none if there are no files.
    """
    selected = ", ".join(
        quoting.name(column.name)
        if column.name in columns
        else f"cast(null as {column.duckdb_type}) as {quoting.name(column.name)}"
        for column in table.columns
    )
    return f"select {selected} from {scan(files)}" if columns else f"select {selected} where false"


def comments(name: str) -> str:
    """Return SQL that comments the view of a table, or a view, and its columns."""
    if name in TABLES:
        description, columns = TABLES[name].description, TABLES[name].columns
        described = [(column.name, column.description) for column in columns]
    else:
        view = catalog.view(name)
        description, described = view.answers, [(column.name, column.description) for column in view.columns]
    lines = [f"comment on view {name} is {quoting.literal(description)};"]
    lines += [
        f"comment on column {name}.{quoting.name(column)} is {quoting.literal(text)};" for column, text in described
    ]
    return "\n".join(lines)


def scan(files: str) -> str:
    """Return SQL that reads Parquet files, given SQL of their list, matching columns by name."""
    return f"read_parquet({files}, union_by_name = true, hive_partitioning = false)"
