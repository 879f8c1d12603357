"""What ad-hoc SQL may do: read the store and the local files it names, and change nothing.

Three checks see what the others cannot:

- the statement's type: only queries, EXPLAIN of a query, and PIVOT;
- its words: DuckDB takes ``with x as (copy … to …) select …`` for a query, calls everything with a PIVOT in it
  "multi", ``copy (pivot …) to …`` too, and has table functions that run SQL given as text;
- the engine's settings: no extension is installed or loaded, so no network; no setting may be changed, so
  neither log nor profile is written to a file.
"""

import itertools
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from ..errors import QueryError, one_line

WORDS: Mapping[str, list[str]] = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
REFUSED_FUNCTIONS = frozenset(WORDS["refused_functions"])
_QUERY_WORDS, _WRITING_WORDS = frozenset(WORDS["query"]), frozenset(WORDS["writing"])
_BEFORE_A_CTE_BODY = frozenset({"as", "materialized"})
# DuckDB's parser overruns its stack, and Python with it, at 40 times as many brackets, or at 2 million characters.
_LONGEST = 1_000_000
_DEEPEST = 1_000
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_WORD = re.compile(r'"(?:[^"]|"")*"|\w+')
_WAY_OUT = "SQL here only reads; to keep a result, use -o FILE"


def settings() -> Mapping[str, Any]:
    """Return the settings to open DuckDB with; `lock_configuration` has to follow once all are set."""
    return {
        "allow_community_extensions": False,
        "allow_extension_repositories": "forbidden",
        "allow_persistent_secrets": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        # A name in the SQL never means a DataFrame that the caller happens to hold.
        "python_enable_replacements": False,
        # Where what does not fit in memory goes; the default is a folder in the working directory.
        "temp_directory": str(Path(tempfile.gettempdir()) / f"neuronlake-{os.getpid()}"),
    }


def check(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    """Return the one statement of a query, without EXPLAIN; raise a `QueryError` unless it only reads."""
    _check_size(query)
    try:
        statements = connection.extract_statements(query)
    except duckdb.Error as error:
        raise QueryError(one_line(error)) from error
    if not statements:
        raise QueryError("there is no SQL in the query")
    if len(statements) > 1:
        raise QueryError(f"{len(statements)} statements in one query; please run them one at a time")
    query = statements[0].query
    offsets, words = tokens(query)
    if words[0] == "explain":
        return check(connection, query.encode()[offsets[_explained(words)] :].decode())
    if words[0] not in _QUERY_WORDS:
        raise QueryError(f"{words[0]} is refused: {_WAY_OUT}")
    kind = statements[0].type  # asked now: DuckDB's list of kinds lacks that of UPDATE EXTENSIONS
    if kind not in (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI):
        raise QueryError(f"{kind.name.lower().replace('_', ' ')} is refused: {_WAY_OUT}")
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        if word == "(" and before in _BEFORE_A_CTE_BODY and after in _WRITING_WORDS:  # the body of a CTE
            raise QueryError(f"{after} is refused: {_WAY_OUT}")
        if kind == duckdb.StatementType.MULTI and word in _WRITING_WORDS:
            raise QueryError(f'{word} is refused: {_WAY_OUT} (where it is a name beside a PIVOT, write "{word}")')
        if after == "(" and word.strip('"') in REFUSED_FUNCTIONS:
            raise QueryError(f"the function {word} is refused: {_WAY_OUT}")
    return query


def _check_size(query: str) -> None:
    """Raise for queries on which DuckDB would crash, or which its parser and tokenizer read differently."""
    if "\0" in query:
        raise QueryError(f"the query has a NUL at character {query.index(chr(0)) + 1:,}")
    if len(query) > _LONGEST:
        problem = f"the query has {len(query):,} characters, more than {_LONGEST:,}"
        raise QueryError(f"{problem}; read long lists of values from a file")
    depth = itertools.accumulate((word in _OPENING) - (word in _CLOSING) for word in tokens(query)[1])
    if max(depth, default=0) > _DEEPEST:
        raise QueryError(f"the query has more than {_DEEPEST:,} brackets inside one another")


def tokens(query: str) -> tuple[list[int], list[str]]:
    """Return where the tokens of the query start, in bytes, and the tokens in lower case, quoted ones with quotes."""
    try:
        text = query.encode()
        offsets = [offset for offset, token in duckdb.tokenize(query) if token != duckdb.token_type.comment]
    except UnicodeEncodeError as error:
        raise QueryError(f"the query is not UTF-8 text: character {error.start + 1:,} is none") from error
    except duckdb.Error as error:
        raise QueryError(one_line(error)) from error
    words = []
    for start, end in itertools.pairwise([*offsets, len(text)]):
        # The text up to the next token may end in white space and comments: neither can be in a word.
        word = _WORD.match(text[start:end].decode())
        words.append(word.group().lower() if word else text[start : start + 1].decode(errors="replace"))
    return offsets, words


def _explained(words: Sequence[str]) -> int:
    """Return the index of the first word of what an EXPLAIN explains."""
    position = 1
    if words[position] == "analyze":
        position += 1
    elif words[position] == "(" and words[position + 1] not in _QUERY_WORDS:
        position = words.index(")") + 1
    return position
