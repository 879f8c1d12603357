"""Excerpts of texts, on one line of a width."""

import pytest

from neuronlake.queries.database import Database

TEXT = "a cat sat\non  the mat and a dog ran"


@pytest.mark.parametrize(
    ("text", "span", "width", "expected"),
    [
        ("a cat sat", None, 20, "a cat sat"),
        (TEXT, None, 20, "a cat sat on the ma…"),
        ("a cat sat", (2, 5), 20, "a [cat] sat"),
        # Whatever separates words or lines is a space.
        ("a\u2028cat\x85sat\x0bon\xa0a mat", (2, 5), 30, "a [cat] sat on a mat"),
        (TEXT, (18, 21), 13, "… the [mat] and …"),
        # What one side does not need is the other's.
        (TEXT, (2, 5), 13, "a [cat] sat on …"),
        (TEXT, (32, 35), 13, "…and a dog [ran]"),
        # A span that is longer than the line is cut itself.
        (TEXT, (2, 34), 10, "…[cat sat o…]…"),
    ],
)
def test_the_text_is_cut_around_its_span(
    empty: Database, text: str, span: tuple[int, int] | None, width: int, expected: str
) -> None:
    start, end = span or (None, None)
    query = "select excerpt(text, first, last, ?) from (select ? as text, ?::int as first, ?::int as last)"
    assert empty.sql(query, [width, text, start, end]).rows() == [(expected,)]


@pytest.mark.parametrize(
    ("span", "token", "width", "expected"),
    [
        # A whole text is cut around the token; of a span the token is marked unless it is all of it.
        (None, (32, 35), 13, "…and a dog «ran»"),
        (None, (2, 5), 99, "a «cat» sat on the mat and a dog ran"),
        (None, None, 20, "a cat sat on the ma…"),
        (None, (0, 0), 20, "a cat sat on the ma…"),
        ((2, 9), (2, 5), 25, "a [«cat» sat] on the mat a…"),
        ((2, 9), (7, 9), 99, "a [cat s«at»] on the mat and a dog ran"),
        ((2, 5), (2, 5), 13, "a [cat] sat on …"),
        ((3, 5), (2, 5), 99, "a c[at] sat on the mat and a dog ran"),
        ((3, 9), (2, 5), 99, "a c[«at» sat] on the mat and a dog ran"),
        ((2, 5), None, 13, "a [cat] sat on …"),
    ],
)
def test_the_token_that_fires_is_marked(
    empty: Database, span: tuple[int, int] | None, token: tuple[int, int] | None, width: int, expected: str
) -> None:
    query = "select highlighted(?, ?::int, ?::int, ?::int, ?::int, ?)"
    values = [TEXT, *(span or (None, None)), *(token or (None, None)), width]
    assert empty.sql(query, values).rows() == [(expected,)]
