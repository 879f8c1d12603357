"""Sections as text: sentences, tables, and what is not shown."""

import io

import duckdb
import pytest

from neuronlake.analysis.sections import Section, write_sections
from neuronlake.queries.result import Result

STATEMENTS = {
    "two rows": "select 'a b' as name, 0.5::double as score, null as unknown union all select 'c', 12.25, null",
    "one row": "select $n::int as n",
    "no rows": "select 1 as n where false",
}


class Connection:
    """A database of nothing."""

    def ask(self, name, **parameters):
        return Result(duckdb.sql(STATEMENTS[name], params=parameters or None))


@pytest.fixture
def text():
    """Return a function that writes sections of the statements above and returns the text."""

    def write(*written):
        stream = io.StringIO()
        write_sections(Connection(), written, stream)
        return stream.getvalue()

    return write


def test_a_section_is_a_sentence_and_a_table_without_columns_that_are_null_throughout(text):
    assert text(Section("Two rows", "two rows")) == "Two rows\nname    score\na b    0.5000\nc     12.2500\n"


def test_sections_have_an_empty_line_between_them(text):
    written = text(Section("Alone"), Section("One row", "one row", {"n": 3}), Section("Last"))
    assert written == "Alone\n\nOne row\nn\n3\n\nLast\n"


def test_a_section_without_rows_is_not_written_or_says_something_else(text):
    assert text(Section("No rows", "no rows"), Section("Last")) == "Last\n"
    assert text(Section("No rows", "no rows", otherwise="Nothing")) == "Nothing\n"


def test_a_long_sentence_is_wrapped_between_words_and_control_characters_are_escaped(text):
    first, second = text(Section(" ".join(["state-of-the-art"] * 7) + " \x1b[1m")).splitlines()
    assert first == " ".join(["state-of-the-art"] * 5)
    assert second == "state-of-the-art state-of-the-art \\x1b[1m"
