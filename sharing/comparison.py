"""Whether two makings of one job are the same but for rounding: times, devices and the last digits differ.

Keys, labels and counts must be equal, floats within the tolerance of the run's floating-point type. Rounding also lets
two instances of nearly equal activation change places, which moves some average precisions, and what is best or comes
first, by more: such cells may be beyond the tolerance in few rows of a table, and scores not by much.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..schema import parquet
from ..schema.commits import Commit
from ..schema.conformance import arrow_schema
from ..schema.disk import store_errors
from ..schema.store import Store
from ..schema.tables import TABLES, Table

TOLERANCES: Mapping[str, float] = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
"""How much a float may differ, by the type of the forward pass, as a share of the largest of its column and file."""

MOVED_SHARE = 0.01
"""Share of a table's rows in which what follows from the order of activations may differ by more."""

MOVED_SCORE = 100
"""By how many tolerances a score may differ in these rows."""

PROVENANCE = frozenset(
    {
        *("device", "neuronlake_version", "torch_version", "transformers_version", "python_version", "request_id"),
        *("source", "started_at", "duration_s", "listed_at", "cell_s", "n_cells_reused"),
    }
)
"""Columns that say how, where and when a job was made, and differ between two makings of it."""

_SCORES = dict.fromkeys(("ap", "ap_complement", "auroc"), MOVED_SCORE)
_HALVES = dict.fromkeys(("ap_half_a", "ap_half_b", "ap_complement_half_a", "ap_complement_half_b"), MOVED_SCORE)
_CORRELATIONS = dict.fromkeys(("text_correlation", "group_correlation", "word_correlation"), MOVED_SCORE)
_COUNTS = dict.fromkeys(("n_both", "n_active", "n_active_partner"), np.inf)


def _all_of(table: str) -> dict[str, float]:
    return {name: np.inf for name in TABLES[table].column_names if name not in TABLES[table].grain}


# The columns that follow from an order of activations or scores, by table, and by how many tolerances they may move.
_ORDERED: Mapping[str, Mapping[str, float]] = {
    "neurons": {"firing_rate": MOVED_SCORE, "n_routed": np.inf, **_CORRELATIONS},
    "neuron_functions": {**_SCORES, **_HALVES, "p_value": np.inf},
    "routing": _SCORES,
    "top_instances": {"instance_id": np.inf},
    "coactivations": {"partner": np.inf, **_COUNTS},
    **{name: _all_of(name) for name in ("neuron_best", "function_top_neurons", "control_best", "control_top_neurons")},
    "alignments": _all_of("alignments"),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A cell in which two makings of a job differ by more than they may."""

    table: str
    column: str
    row: str  # its key
    values: tuple[object, object]
    size: float  # as a share of the largest value of its column and file; infinite where values must be equal
    moved: float = 0  # share of the table's rows that moved, where these are too many

    def __str__(self) -> str:
        a, b = self.values
        share = "" if np.isinf(self.size) else f", {self.size:.2g} of the column's largest value"
        often = f", one of the {self.moved:.1%} of rows that differ" if self.moved else ""
        return f"table {self.table}, column {self.column}, {self.row}: {a!r} and {b!r}{share}{often}"


def worst_difference(a: tuple[Store, Commit], b: tuple[Store, Commit], tolerance: float) -> Difference | None:
    """Return the worst cell in which two makings of a job differ by more than they may; None if there is none.

    The files of a table are compared one by one where both makings have the same, else all together.
    """
    found = [_worst(table, _files(table, *a), _files(table, *b), tolerance) for table in TABLES.values()]
    return max(filter(None, found), key=lambda difference: difference.size, default=None)


def _files(table: Table, store: Store, commit: Commit) -> Mapping[str, Path]:
    return {file.path: store.locate(file) for file in commit.files if file.table == table.name}


def _worst(table: Table, a: Mapping[str, Path], b: Mapping[str, Path], tolerance: float) -> Difference | None:
    pairs: list[tuple[Iterable[Path], Iterable[Path]]] = [(a.values(), b.values())]
    if a.keys() == b.keys():
        pairs = [((a[path],), (b[path],)) for path in a]
    wrong: list[Difference] = []
    moved: list[Difference] = []
    n_rows = n_moved = 0
    for of_a, of_b in pairs:
        rows = _Pair(table, _Rows(table, tuple(of_a)), _Rows(table, tuple(of_b)))
        n_rows += rows.n_rows
        n_moved += rows.compare(tolerance, wrong, moved)
    if not wrong and n_moved > MOVED_SHARE * n_rows:
        worst = max(moved, key=lambda difference: difference.size)
        values = (worst.table, worst.column, worst.row, worst.values, worst.size)
        wrong.append(Difference(*values, moved=n_moved / n_rows))
    return max(wrong, key=lambda difference: difference.size, default=None)


class _Rows:
    """Rows of a table in some files, read a column at a time."""

    def __init__(self, table: Table, paths: Sequence[Path]) -> None:
        self._types = {field.name: field.type for field in arrow_schema(table)}
        self._paths = paths
        self.order: pl.Series | None = None  # which rows, where that is not all in the order of the files

    @cached_property
    def n_rows(self) -> int:
        return sum(parquet.n_rows(path) for path in self._paths)

    def column(self, name: str) -> pl.Series:
        """Return the values of a column, NULL where a file was written before it was declared."""
        chunks: list[pa.Array] = []
        for path in self._paths:
            unreadable = (pa.ArrowException, UnicodeDecodeError)
            with store_errors(f"cannot read {path}", *unreadable), pq.ParquetFile(path) as file:
                if name in file.schema_arrow.names:
                    chunks += file.read(columns=[name]).column(0).cast(self._types[name]).chunks
                else:
                    chunks.append(pa.nulls(file.metadata.num_rows, self._types[name]))
        values = pl.Series(name, pl.from_arrow(pa.chunked_array(chunks, self._types[name])))
        return values if self.order is None else values[self.order]

    def columns(self, names: Iterable[str]) -> pl.DataFrame:
        return pl.DataFrame([self.column(name) for name in names])


class _Pair:
    """The rows of two makings of a table, or of a file of it."""

    def __init__(self, table: Table, a: _Rows, b: _Rows) -> None:
        self._table, self._a, self._b = table, a, b
        self._ordered = _ORDERED.get(table.name, {})
        self._keys = [name for name in table.grain if name not in PROVENANCE]
        self.n_rows = max(a.n_rows, b.n_rows)

    def compare(self, tolerance: float, wrong: list[Difference], moved: list[Difference]) -> int:
        """Add the worst cell of each column to those that are wrong or have moved; return how many rows have moved."""
        alone = self._pair_up()
        if alone is not None:
            key, column = alone
            (moved if not self._ordered.keys().isdisjoint(self._keys) else wrong).append(
                Difference(self._table.name, column, key, ("in one", "not in the other"), np.inf)
            )
        has_moved = np.zeros(len(self._a.column(self._keys[0])), bool)
        for name in self._table.column_names:
            if name in PROVENANCE or name in self._keys:
                continue
            left, right = self._a.column(name), self._b.column(name)
            if self._table.column(name).holds_text and len(left) in (left.null_count(), right.null_count()):
                continue  # of a pack without texts
            sizes = _distances(left, right) if left.dtype.is_float() else np.where(left.ne_missing(right), np.inf, 0)
            beyond = sizes > tolerance
            if beyond.any():
                row = int(sizes.argmax())
                key = _shown(self._a.columns(self._keys), row)
                worst = Difference(self._table.name, name, key, (left[row], right[row]), float(sizes[row]))
                is_wrong = name not in self._ordered or worst.size > self._ordered[name] * tolerance
                (wrong if is_wrong else moved).append(worst)
                has_moved |= beyond
        return int(has_moved.sum()) + self.n_rows - len(has_moved)

    def _pair_up(self) -> tuple[str, str] | None:
        """Order the rows of both by their keys, without those of one alone; return the key of one such, if any."""
        left, right = self._a.columns(self._keys), self._b.columns(self._keys)
        if left.equals(right):
            return None
        left, right = left.with_row_index("row"), right.with_row_index("row_b")
        both = left.join(right, on=self._keys, how="inner", maintain_order="left")
        alone = (left.join(both, on="row", how="anti"), right.join(both, on="row_b", how="anti"))
        self._a.order, self._b.order = both["row"], both["row_b"]
        return next(((_shown(rows, 0, self._keys), self._keys[-1]) for rows in alone if rows.height), None)


def _shown(rows: pl.DataFrame, row: int, names: Sequence[str] | None = None) -> str:
    return ", ".join(f"{name}={rows[name][row]!r}" for name in names or rows.columns)


def _distances(a: pl.Series, b: pl.Series) -> NDArray[np.float64]:
    """Return how far floats lie apart, as a share of the largest of both; infinite where one is NULL."""
    left, right = (values.cast(pl.Float64).to_numpy() for values in (a, b))
    largest = max(float(np.fmax.reduce(np.abs(each), initial=0.0)) for each in (left, right))
    apart = np.abs(left - right) / (largest or 1.0)
    return np.where(np.isnan(left) & np.isnan(right), 0.0, np.where(np.isnan(apart), np.inf, apart))
