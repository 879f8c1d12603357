import io
import json
from pathlib import Path

import polars as pl
import pytest

from neuronlake.errors import QueryError, StoreError
from neuronlake.queries import output
from neuronlake.queries.database import Database


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(database: Database, query: str, format: output.Format) -> str:  # noqa: A002
    stream = io.StringIO()
    output.write(database.sql(query), stream, format=format)
    return stream.getvalue()


MIXED = """
    select 1 as a, 0.3::float as b, null as c, true as d, 'x,"y' as e, [1, 2] as f, {'k': 1.5} as g,
        'nan'::double as h, '2024-01-02 03:04:05+00'::timestamptz as i, 10::hugeint as j, date '2024-01-02' as k
"""


def test_csv_has_null_and_nan_as_empty_fields(database: Database) -> None:
    header, row = written(database, MIXED, "csv").splitlines()
    assert header == "a,b,c,d,e,f,g,h,i,j,k"
    assert row == '1,0.3,,true,"x,""y","[1, 2]","{""k"": 1.5}",,2024-01-02T03:04:05Z,10,2024-01-02'


def test_json_is_a_list_of_records_with_null(database: Database) -> None:
    assert json.loads(written(database, MIXED, "json")) == [
        {
            "a": 1,
            "b": 0.3,
            "c": None,
            "d": True,
            "e": 'x,"y',
            "f": [1, 2],
            "g": {"k": 1.5},
            "h": None,
            "i": "2024-01-02T03:04:05Z",
            "j": 10,
            "k": "2024-01-02",
        }
    ]


def test_no_rows_are_an_empty_list_and_a_header(database: Database) -> None:
    assert json.loads(written(database, "select 1 as a where false", "json")) == []
    assert written(database, "select 1 as a where false", "csv") == "a\n"
    assert written(database, "select 1 as a where false", "table") == "a\n"


def test_a_table_that_goes_elsewhere_is_plain_aligned_text_in_full(database: Database) -> None:
    text = written(database, "select range as n, 'ab' as text, 0.5::double as value from range(300)", "table")
    assert text.splitlines()[:3] == ["  n  text   value", "  0  ab    0.5000", "  1  ab    0.5000"]
    assert len(text.splitlines()) == 301


def test_a_long_cell_is_cut(database: Database) -> None:
    assert written(database, "select repeat('x', 200) as a", "table").splitlines()[1] == "x" * 99 + "…"


def test_a_table_on_a_terminal_is_cut_and_says_so(database: Database) -> None:
    terminal = Terminal()
    output.write(database.sql("select range as n from range(300)"), terminal)
    assert terminal.getvalue().endswith("100 of 300 rows; -o FILE writes them all\n")


def test_rows_too_wide_for_the_terminal_have_one_column_a_line(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    output.write(database.sql("select 1 as key, repeat('x', 50) as text"), terminal)
    assert terminal.getvalue() == f" key  1\ntext  {'x' * 50}\n\n1 row\n"


def test_markup_in_a_cell_is_text(database: Database) -> None:
    terminal = Terminal()
    output.write(database.sql("select '[red]x[/red]' as a"), terminal)
    assert "[red]x[/red]" in terminal.getvalue()


def test_columns_of_one_name_are_both_written(database: Database) -> None:
    assert written(database, "select 1 as a, 2 as a", "csv").splitlines()[1] == "1,2"


def test_a_plan_is_drawn_as_it_is(database: Database) -> None:
    assert written(database, "explain select 1", "table").startswith("╭")


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_a_file_holds_the_rows_in_the_format_of_its_suffix(database: Database, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    path.write_text("old")
    output.save(database.sql("select 1 as a, 'x' as b"), path)
    read = {"csv": pl.read_csv, "json": pl.read_json, "parquet": pl.read_parquet}[suffix]
    assert read(path).to_dicts() == [{"a": 1, "b": "x"}]
    assert list(tmp_path.iterdir()) == [path]


def test_a_suffix_that_names_no_format_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"'out\.xlsx'; name it \.csv, \.json or \.parquet"):
        output.save(database.sql("select 1"), tmp_path / "out.xlsx")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_that_cannot_be_written_is_named(database: Database, tmp_path: Path, suffix: str) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*none/out"):
        output.save(database.sql("select 1"), tmp_path / "none" / f"out.{suffix}")


def test_parquet_is_not_written_as_text(database: Database) -> None:
    with pytest.raises(QueryError, match="parquet cannot be written as text"):
        written(database, "select 1", "parquet")
