import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from neuronlake.errors import QueryError, StoreError
from neuronlake.queries import output
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store


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


def test_a_long_cell_is_cut_on_a_terminal_alone(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    query = "select repeat('x', 200) as a"
    assert written(database, query, "table").splitlines()[1] == "x" * 200
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    output.write(database.sql(query), terminal)
    assert "x" * 99 + "…" in terminal.getvalue()
    assert "x" * 100 not in terminal.getvalue()


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


def test_null_and_an_empty_text_differ_in_csv(database: Database) -> None:
    assert written(database, "select null as a, '' as b, 'x' as c", "csv") == 'a,b,c\n,"",x\n'


def test_what_python_spells_otherwise_is_written_as_sql_spells_it(database: Database) -> None:
    query = "select interval '1 month' as i, 'a'::blob as b, timestamp_ns '2000-01-01 00:00:00.123456789' as t"
    assert written(database, query, "csv") == "i,b,t\n1 month,a,2000-01-01 00:00:00.123456789\n"


def test_times_with_a_zone_are_written_at_any_depth(database: Database) -> None:
    query = "select ['2024-01-02 03:04:05.5+01'::timestamptz] as a, {'b': null::timestamptz} as c"
    assert written(database, query, "csv").splitlines()[1] == '"[""2024-01-02T02:04:05.500000Z""]","{""b"": null}"'
    assert json.loads(written(database, query, "json")) == [{"a": ["2024-01-02T02:04:05.500000Z"], "c": {"b": None}}]
    assert written(database, query, "table").splitlines()[1].split("  ")[0] == '["2024-01-02T02:04:05.500000Z"]'


SUM = "select sum(n) as n, [sum(n)] as l from (values (9007199254740992), (1)) as numbers(n)"


def test_a_sum_of_integers_is_exact_in_every_format(database: Database, tmp_path: Path) -> None:
    for suffix in ("csv", "json", "parquet"):
        output.save(database.sql(SUM), tmp_path / f"out.{suffix}")
    assert (tmp_path / "out.csv").read_text() == "n,l\n9007199254740993,[9007199254740993]\n"
    expected = [{"n": 9007199254740993, "l": [9007199254740993]}]
    assert json.loads((tmp_path / "out.json").read_text()) == expected
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == expected
    result = database.sql(SUM)
    assert [result.pl().rows()[0][0], result.df()["n"][0], result.rows()[0][0]] == [9007199254740993] * 3


def test_an_integer_wider_than_64_bits_is_exact_in_parquet_and_json(database: Database, tmp_path: Path) -> None:
    query = "select 99999999999999999999::hugeint as n, 0.1234567890123456789::decimal(38, 19) as d"
    output.save(database.sql(query), tmp_path / "out.parquet")
    assert str(pq.read_table(tmp_path / "out.parquet")["n"][0].as_py()) == "99999999999999999999"
    assert json.loads(written(database, query, "json")) == [{"n": 99999999999999999999, "d": "0.1234567890123456789"}]


def test_fields_called_like_a_type_keep_their_names(database: Database) -> None:
    query = "select {'HUGEINT': 1, 'b': sum(2), 'TIMESTAMP WITH TIME ZONE': timestamptz '2020-01-01 00:00:00+00'} as x"
    fields = {"HUGEINT": 1, "b": 2, "TIMESTAMP WITH TIME ZONE": "2020-01-01T00:00:00Z"}
    assert json.loads(written(database, query, "json")) == [{"x": fields}]
    assert database.sql(f"select {10**49}::bignum as n").rows() == [(str(10**49),)]


HOSTILE = "select e'a\\x1b]52;c;eA==\\x07\\n' || chr(8238) || chr(155) as \"b\x1b[2J\""


def test_control_characters_are_escaped_where_they_are_printed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = r"a\x1b]52;c;eA==\x07\n\u202e\u009b"
    assert written(database, HOSTILE, "table") == f"b\\x1b[2J\n{shown}\n"
    assert str(database.sql(HOSTILE)) == f"b\\x1b[2J\n{shown}\n1 row"
    assert f"<td>{shown}</td>" in database.sql(HOSTILE)._repr_html_()
    for columns in ("100", "10"):
        monkeypatch.setenv("COLUMNS", columns)
        for format_ in ("table", "csv", "json"):
            terminal = Terminal()
            output.write(database.sql(HOSTILE), terminal, format=format_)
            assert not {"\x07", "\u202e", "\x9b"} & set(terminal.getvalue())
            assert "\x1b]" not in terminal.getvalue()
            assert "\x1b[2J" not in terminal.getvalue()


def test_a_file_and_a_pipe_hold_the_text_itself(database: Database) -> None:
    text = "a\x1b]52;c;eA==\x07\n\u202e\x9b"
    assert written(database, HOSTILE, "csv") == f'b\x1b[2J\n"{text}"\n'
    assert json.loads(written(database, HOSTILE, "json")) == [{"b\x1b[2J": text}]


def test_a_printed_result_shows_its_first_rows(database: Database) -> None:
    lines = str(database.sql("select range as n, repeat('x', 200) as t from range(3000)")).splitlines()
    assert lines[0].split() == ["n", "t"]
    assert lines[1].split() == ["0", "x" * 99 + "…"]
    assert (len(lines), lines[-1]) == (22, "20 of 3,000 rows")
    assert str(database.sql("explain select 1")).startswith("╭")


def test_a_notebook_shows_a_table_with_its_text_escaped(database: Database) -> None:
    assert database.sql("select '<b>' as \"<i>\"")._repr_html_() == (
        "<table><tr><th>&lt;i&gt;</th></tr><tr><td>&lt;b&gt;</td></tr></table><p>1 row</p>"
    )


def test_a_link_stays_and_its_file_is_replaced_with_its_mode(database: Database, tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "real.csv").chmod(0o640)
    (tmp_path / "link.csv").symlink_to("real.csv")
    output.save(database.sql("select 1 as a"), tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "a\n1\n"
    assert (tmp_path / "real.csv").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("format_", ["csv", "parquet"])
def test_a_pipe_and_a_device_are_written_to(database: Database, tmp_path: Path, format_: output.Format) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    output.save(database.sql("select 1 as a"), tmp_path / "pipe", format=format_)
    reader.join()
    assert (tmp_path / "pipe").is_fifo()
    assert read[0][:4] == {"csv": b"a\n1\n", "parquet": b"PAR1"}[format_]
    output.save(database.sql("select 1 as a"), Path("/dev/null"), format=format_)
    assert Path("/dev/null").is_char_device()


def test_standard_output_is_written_on_by_its_name(database: Database, capfd: pytest.CaptureFixture[str]) -> None:
    os.write(1, b"before\n")
    for name in ("/dev/stdout", "/dev/fd/1"):
        output.save(database.sql("select 1 as a"), Path(name), format="csv")
    assert capfd.readouterr().out == "before\na\n1\na\n1\n"


def test_the_files_of_the_store_are_not_overwritten(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16, n_neurons=2)
    (store.path / "link.csv").symlink_to(store.files("runs")[0])
    before = {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}
    for name in ("README.md", "data/new.csv", "link.csv", "commits/x.json", "derived/x.csv"):
        with pytest.raises(QueryError, match="a file of the store"):
            output.save(Database(store).sql("select 1"), store.path / name, format="csv", stores=[store.path])
    assert {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()} == before
