"""The declarations themselves, and the SQL that they are written in."""

from pathlib import Path

import duckdb
import pytest

from neuronlake.errors import SchemaError, UnknownNameError
from neuronlake.schema import tables
from neuronlake.schema.tables import TABLES, Column, Table, parse, table


@pytest.mark.parametrize("name", TABLES)
def test_the_grain_is_made_of_declared_columns_that_are_never_null(name):
    declared = table(name)
    assert declared.grain
    assert all(not declared.column(column).nullable for column in declared.grain)


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_named_once_and_described_without_a_full_stop(name):
    declared = table(name)
    assert len(set(declared.column_names)) == len(declared.column_names)
    assert all(column.description and not column.description.endswith(".") for column in declared.columns)
    assert not any("|" in column.description for column in declared.columns)  # they become cells of a table


@pytest.mark.parametrize("name", TABLES)
def test_descriptions_are_one_line_of_single_spaces(name):
    declared = table(name)
    descriptions = [declared.description, *(column.description for column in declared.columns)]
    assert [text for text in descriptions if " ".join(text.split()) != text or "--" in text] == []


def test_a_table_that_is_not_declared_is_refused_with_the_closest_name():
    with pytest.raises(UnknownNameError, match="no table 'neuron'; did you mean 'neurons'"):
        table("neuron")


def test_a_column_that_is_not_declared_is_a_key_error():
    with pytest.raises(KeyError, match="activation"):
        table("neurons").column("activation")


@pytest.fixture(scope="module")
def made():
    """A database in which DuckDB has run every file of declarations."""
    with duckdb.connect() as connection:
        for file in Path(tables.__file__).parent.glob("*.sql"):
            connection.execute(file.read_text(encoding="utf-8"))
        yield connection


def test_duckdb_makes_the_declared_tables_and_no_others(made):
    assert {name for (name,) in made.sql("select table_name from duckdb_tables()").fetchall()} == {*TABLES}


@pytest.mark.parametrize("name", TABLES)
def test_duckdb_makes_the_declared_columns_and_grain(made, name):
    declared = table(name)
    query = "select column_name, lower(data_type), is_nullable from duckdb_columns() where table_name = ?"
    found = made.execute(f"{query} order by column_index", [name]).fetchall()
    assert found == [(column.name, column.duckdb_type, column.nullable) for column in declared.columns]
    query = "select constraint_column_names from duckdb_constraints() where table_name = ?"
    assert made.execute(f"{query} and constraint_type = 'PRIMARY KEY'", [name]).fetchall() == [([*declared.grain],)]


SQL = """
-- A comment apart says nothing of a table.

-- one place in a text
create table places (
    text_id bigint not null,  -- the text
    place integer not null,   -- its place
    word varchar not null,    -- another
    primary key (text_id, place)
);

-- a word
-- of a text
create table words (
    text_id bigint not null, place integer not null,
    word varchar not null,  -- as
                            -- written [text]
    score float,            -- how rare [late] [measured]
    primary key (text_id,
        place)
);
"""


def test_columns_without_a_comment_mean_what_was_said_of_their_name_before():
    _, words = parse(SQL)
    assert words == Table(
        "words",
        ("text_id", "place"),
        "a word of a text",
        (
            Column("text_id", "int64", "the text"),
            Column("place", "int32", "its place"),
            Column("word", "string", "as written", holds_text=True),
            Column("score", "float32", "how rare; NULL if unknown, of imported results", nullable=True, is_late=True),
        ),
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bigint", "bigin"),
        ("float, ", "float "),
        ("float", "float null"),
        ("[late]", "[lat]"),
        ("[late]", "[late"),
        ("[late]", "late]"),
        ("score float,            --", "score float,\n    --"),
        ("place integer not null,", "place integer not null,  -- of several columns"),
        ("    word", "word"),
        ("create table", "create or replace table"),
        ("-- a word\n-- of a text\n", ""),
        ("    primary key (text_id,\n        place)\n", ""),
        (");", ""),
        (");", ");\n-- more"),
        ("word varchar", "\n    word varchar"),
    ],
)
def test_sql_that_is_not_understood_is_refused(old, new):
    assert old in SQL
    with pytest.raises(SchemaError, match=r"no columns, nor one with its meaning|no declaration of a table"):
        list(parse(SQL.replace(old, new)))


def test_a_column_whose_meaning_is_said_nowhere_is_refused():
    with pytest.raises(SchemaError, match="table words, column place: no meaning, here or above"):
        list(parse(SQL.replace("    place integer not null,   -- its place\n", "")))
