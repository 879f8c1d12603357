"""The rows a query returned."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import duckdb
    import pandas as pd  # type: ignore[import-untyped]
    import polars as pl
    import pyarrow as pa

__all__ = ["Result"]


class Result:
    """The rows of a query that has run, as whatever the reader works with.

    Iterating gives each row as a dictionary.

    Parameters
    ----------
    relation
        The rows, in memory.
    """

    def __init__(self, relation: "duckdb.DuckDBPyRelation") -> None:
        self._relation = relation

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._relation.columns)

    @property
    def types(self) -> tuple[str, ...]:
        """DuckDB types of the columns."""
        return tuple(str(each) for each in self._relation.types)

    @property
    def relation(self) -> "duckdb.DuckDBPyRelation":
        """The rows as a DuckDB relation."""
        return self._relation

    def rows(self) -> list[tuple[object, ...]]:
        """Return the rows as tuples of Python values."""
        if any("TIME ZONE" in each for each in self.types):
            # DuckDB wants the pytz package for these; Arrow does not.
            columns = [column.to_pylist() for column in self.arrow().columns]
            return list(zip(*columns, strict=True))
        return cast("list[tuple[object, ...]]", self._relation.fetchall())

    def pl(self) -> "pl.DataFrame":
        """Return the rows as a polars data frame."""
        return cast("pl.DataFrame", self._relation.pl())

    def df(self) -> "pd.DataFrame":
        """Return the rows as a pandas data frame."""
        return self._relation.df()

    def arrow(self) -> "pa.Table":
        """Return the rows as an Arrow table."""
        return self._relation.to_arrow_table()

    def __iter__(self) -> Iterator[dict[str, object]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows())

    def __len__(self) -> int:
        return int(self._relation.shape[0])
