"""Whether two makings of one job are the same but for rounding: times, devices and the last digits differ.

This is the one rule of what rounding may do: stores are merged by it, and what is measured again is held to what is
stored. Keys, labels and counts must be equal, floats within the tolerance of the run's floating-point type. Rounding
also lets two instances of nearly equal activation change places, which moves some scores, and what is best or comes
first, by more: such cells may be beyond the tolerance in few rows of a table, and scores not by much.
"""

import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ..schema import parquet
from ..schema.commits import Commit, CommittedFile
from ..schema.conformance import arrow_schema
from ..schema.store import Store
from ..schema.tables import TABLES, Table


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two makings of a run may lie apart."""

    number: float  # any float, as a share of the largest of its column and file
    moved: float  # share of a table's rows in which what follows from the order of activations may be beyond that
    score: float  # how far scores may then be; p values by a factor of exp(20 * score)

    def __str__(self) -> str:
        return f"tolerated: {self.number:g}; where order decides, {self.score:g} in {self.moved:.0%} of rows"


TOLERANCES: Mapping[str, Tolerance] = {
    "float32": Tolerance(2e-5, 0.03, 0.05),
    "float16": Tolerance(2e-3, 0.05, 0.1),
    "bfloat16": Tolerance(2e-2, 0.15, 0.2),
}
"""By the type of the forward pass, on devices of the same name: docs/sharing.md has what was measured."""

ANOTHER_DEVICE = Tolerance(10, 2, 2)
"""By how many times these grow between devices, which sum in another order."""

_COLUMNS = tomllib.loads(Path(__file__).with_name("comparison.toml").read_text(encoding="utf-8"))
PROVENANCE = frozenset(_COLUMNS["provenance"])
"""Columns that say how, where and when a job was made, and differ between two makings of it."""

# The columns that follow from an order of activations or scores, by table: whether a score bounds how far they move.
_ORDERED: Mapping[str, Mapping[str, bool]] = {
    name: dict.fromkeys(_COLUMNS["bounded"].get(name, ()), True)
    | dict.fromkeys(_COLUMNS["unbounded"].get(name, ()), False)
    | dict.fromkeys(set(declared.column_names).difference(declared.grain) if name in _COLUMNS["lists"] else (), False)
    for name, declared in TABLES.items()
}


def tolerance(dtypes: Iterable[str], *, is_same_device: bool) -> Tolerance:
    """Return the widest tolerance of runs of some floating-point types; of none, that of float32."""
    of_each = [TOLERANCES[dtype] for dtype in dtypes if dtype in TOLERANCES] or [TOLERANCES["float32"]]
    number, moved, score = (max(getattr(each, name) for each in of_each) for name in ("number", "moved", "score"))
    grown = Tolerance(1, 1, 1) if is_same_device else ANOTHER_DEVICE
    return Tolerance(number * grown.number, moved * grown.moved, score * grown.score)


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
        is_share = np.isfinite(self.size) and self.column != "p_value"
        share = f", {self.size:.2g} of the column's largest value" if is_share else ""
        often = f", one of the {self.moved:.1%} of rows that differ" if self.moved else ""
        return f"table {self.table}, column {self.column}, {self.row}: {a!r} and {b!r}{share}{often}"


def worst_difference(
    a: tuple[Store, Commit],
    b: tuple[Store, Commit],
    allowed: Tolerance,
    *,
    tables: Collection[str] = tuple(TABLES),
    ignored: Collection[str] = (),
    layers: Collection[int] | None = None,
) -> Difference | None:
    """Return the worst cell in which two makings of a job differ by more than they may; None if there is none.

    The files of a table are compared one by one where both makings have the same, else all together. `ignored` are
    columns that are not compared beside those of provenance; `layers`, where given, are all that is.
    """
    ignored = {*PROVENANCE, *ignored}
    worst: list[Difference] = []
    for table in map(TABLES.__getitem__, tables):
        of = [
            {file.path: (store, file) for file in commit.files if file.table == table.name} for store, commit in (a, b)
        ]
        parts = [[path] for path in of[0]] if of[0].keys() == of[1].keys() else [[*dict.fromkeys([*of[0], *of[1]])]]
        wrong: list[Difference] = []
        moved: list[Difference] = []
        n_rows = n_moved = 0
        for paths in parts:
            pair = [_Rows(table, [files[path] for path in paths if path in files], layers) for files in of]
            counts = _compare(table, pair, allowed, ignored, (wrong, moved))
            n_rows, n_moved = n_rows + counts[0], n_moved + counts[1]
        if not wrong and n_moved > allowed.moved * n_rows:
            wrong.append(replace(max(moved, key=attrgetter("size")), moved=n_moved / n_rows))
        worst += wrong
    return max(worst, key=attrgetter("size"), default=None)


class _Rows:
    """Rows of a table in some files, read a column at a time."""

    def __init__(
        self, table: Table, files: Sequence[tuple[Store, CommittedFile]], layers: Collection[int] | None
    ) -> None:
        self._types = {field.name: field.type for field in arrow_schema(table)}
        self._files = files
        self._order: pl.Series | None = None  # which rows, where that is not all in the order of the files
        if layers is not None and "layer" in table.column_names:
            self.take(self.column("layer").is_in([*layers]).arg_true())

    def take(self, rows: pl.Series) -> None:
        """Keep some rows, in this order."""
        self._order = rows if self._order is None else self._order[rows]

    def column(self, name: str) -> pl.Series:
        """Return the values of a column, NULL where a file was written before it was declared."""
        chunks: list[pa.Array] = []
        for store, committed in self._files:
            with parquet.opened(store, committed) as file:
                if name in file.schema_arrow.names:
                    chunks += file.read(columns=[name]).column(0).cast(self._types[name]).chunks
                else:
                    chunks.append(pa.nulls(file.metadata.num_rows, self._types[name]))
        values = pl.Series(name, pl.from_arrow(pa.chunked_array(chunks, self._types[name])))
        return values if self._order is None else values[self._order]

    def columns(self, names: Iterable[str]) -> pl.DataFrame:
        return pl.DataFrame([self.column(name) for name in names])


def _compare(
    table: Table, pair: Sequence[_Rows], allowed: Tolerance, ignored: Collection[str], found: Sequence[list[Difference]]
) -> tuple[int, int]:
    """Add the worst cell of each column to those that are wrong or have moved; return how many rows, and have moved."""
    (a, b), (wrong, moved) = pair, found
    ordered = _ORDERED.get(table.name, {})
    keys = [name for name in table.grain if name not in ignored]
    left_keys, right_keys = a.columns(keys), b.columns(keys)
    n_rows, n_both = max(left_keys.height, right_keys.height), left_keys.height
    if not left_keys.equals(right_keys):  # order the rows of both alike, without those of one alone
        left_keys, right_keys = left_keys.with_row_index("row"), right_keys.with_row_index("row_b")
        both = left_keys.join(right_keys, on=keys, how="inner", maintain_order="left")
        alone = (left_keys.join(both, on="row", how="anti"), right_keys.join(both, on="row_b", how="anti"))
        for rows in [rows for rows in alone if rows.height][:1]:
            key = _shown(rows.select(keys), 0)
            lone = Difference(table.name, keys[-1], key, ("in one", "not in the other"), np.inf)
            (wrong if ordered.keys().isdisjoint(keys) else moved).append(lone)
        a.take(both["row"])
        b.take(both["row_b"])
        n_both = both.height
    has_moved = np.zeros(n_both, bool)
    for name in (name for name in table.column_names if name not in ignored and name not in keys):
        left, right = a.column(name), b.column(name)
        if table.column(name).holds_text and len(left) in (left.null_count(), right.null_count()):
            continue  # of a pack without texts
        sizes = _distances(left, right) if left.dtype.is_float() else np.where(left.ne_missing(right), np.inf, 0)
        beyond = sizes > allowed.number
        if beyond.any():
            row = int(sizes.argmax())
            key = _shown(a.columns(keys), row)
            worst = Difference(table.name, name, key, (left[row], right[row]), float(sizes[row]))
            most = allowed.score if ordered.get(name) else np.inf
            (wrong if name not in ordered or worst.size > most else moved).append(worst)
            has_moved |= beyond
    return n_rows, int(has_moved.sum()) + n_rows - n_both


def _shown(rows: pl.DataFrame, row: int) -> str:
    return ", ".join(f"{name}={rows[name][row]!r}" for name in rows.columns)


def _distances(a: pl.Series, b: pl.Series) -> NDArray[np.float64]:
    """Return how far floats lie apart, as a share of the largest of both; infinite where one is NULL.

    Of p values it is a twentieth of the distance of their logarithms, so that what none can be lies far from all.
    """
    if a.name == "p_value":
        a, b = (values.cast(pl.Float64).clip(5e-324).log() / 20 for values in (a, b))
    left, right = (values.cast(pl.Float64).to_numpy() for values in (a, b))
    largest = max(float(np.fmax.reduce(np.abs(each), initial=0.0)) for each in (left, right))
    apart = np.abs(left - right) / (1.0 if a.name == "p_value" else largest or 1.0)
    return np.where(np.isnan(left) & np.isnan(right), 0.0, np.where(np.isnan(apart), np.inf, apart))
