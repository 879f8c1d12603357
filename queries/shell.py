"""The interactive prompt over a store, and what it completes."""

import itertools
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from ..errors import NeuronlakeError, QueryError, check_known
from ..schema.disk import store_errors
from ..schema.tables import TABLES
from . import catalog, output
from .database import Database
from .readonly import WORDS, tokens

_COMMANDS = {
    ".tables": "list the tables",
    ".views": "list the views and what they answer",
    ".schema": "NAME: the columns of a table or view",
    ".refresh": "read what was committed and kept meanwhile",
    ".help": "this list",
    ".quit": "leave",
}


def run_shell(database: Database) -> None:
    """Read statements, which end with ``;``, and print their rows until the person leaves, by Ctrl-D."""
    if not sys.stdin.isatty():  # what is piped in is answered without a prompt
        try:
            statements = statements_of(sys.stdin.read())
        except UnicodeDecodeError as error:
            raise QueryError(f"what is piped in is not UTF-8 text: byte {error.start + 1:,} is none") from error
        n_failed = 0
        for statement in statements:
            try:
                if not _answer(database, statement, sys.stdout):
                    break
            except NeuronlakeError as error:
                n_failed += 1
                sys.stdout.write(f"error: {error}\n")
        if n_failed:
            raise QueryError(f"{n_failed} of {len(statements)} statements failed")
        return

    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import DynamicCompleter, WordCompleter
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.history import FileHistory

    def words() -> WordCompleter:
        text = session.default_buffer.document.text_before_cursor
        return WordCompleter(complete(text), ignore_case=True, WORD=text.lstrip().startswith("."))

    file = history_file()
    with store_errors(f"cannot write {file.parent}"):
        file.parent.mkdir(parents=True, exist_ok=True)
    session: PromptSession[str] = PromptSession(
        "neuronlake> ",
        history=FileHistory(str(file)),
        completer=DynamicCompleter(words),
        complete_while_typing=False,
        multiline=Condition(lambda: not is_complete(session.default_buffer.text)),
        prompt_continuation="        ... ",
    )
    print("SQL ends with ; and .help lists more. Ctrl-D leaves.")
    while True:
        try:
            if not answer(database, session.prompt(), sys.stdout):
                return
        except KeyboardInterrupt:  # what is typed is dropped
            continue
        except EOFError:
            return


def is_complete(text: str) -> bool:
    """Return whether Enter ends the input: an empty line, a command, or a statement with its semicolon."""
    stripped = text.strip()
    return not stripped or stripped.startswith(".") or stripped.endswith(";")


def statements_of(text: str) -> list[str]:
    """Cut a text at the semicolons that end statements, not at those within strings and comments."""
    try:
        offsets, words = tokens(text)
    except QueryError:  # what DuckDB cannot read in parts it will refuse as a whole
        return [text]
    data, ends = text.encode(), [offset for offset, word in zip(offsets, words, strict=True) if word == ";"]
    parts = [data[start:end].decode() for start, end in itertools.pairwise([0, *(end + 1 for end in ends), len(data)])]
    return [part.strip().rstrip(";") for part in parts if part.strip(" \n\t\r;")]


def _answer(database: Database, text: str, stream: IO[str]) -> bool:
    """Answer one input; return False if it asks to leave."""
    command, _, name = text.strip().rstrip(";").strip().partition(" ")
    if command == ".quit":
        return False
    if command == ".refresh":
        database.refresh()
    elif command.startswith("."):
        stream.write(_answer_command(command, name.strip()))
    elif command:
        output.write(database.sql(text), stream)
    return True


def answer(database: Database, text: str, stream: IO[str]) -> bool:
    """Answer one input, an error in one line; return False if it asks to leave."""
    try:
        return _answer(database, text, stream)
    except NeuronlakeError as error:
        stream.write(f"error: {error}\n")
    except KeyboardInterrupt:
        stream.write("stopped\n")
    return True


def _answer_command(command: str, name: str) -> str:
    described = catalog.describe()
    if command == ".help":
        return _listed(_COMMANDS)
    if command in (".tables", ".views"):
        is_table = command == ".tables"
        return _listed({name: line for name, (line, _) in described.items() if (name in TABLES) == is_table})
    check_known("command", [command], _COMMANDS)
    check_known("table or view", [name], described)
    line, columns = described[name]
    return f"{name}: {line}\n{_listed(columns)}"


def _listed(descriptions: Mapping[str, str]) -> str:
    width = max(map(len, descriptions))
    return "".join(f"  {name.ljust(width)}  {text}\n" for name, text in descriptions.items())


def complete(text: str) -> Sequence[str]:
    """Return what the word at the end of a text, the statement up to the cursor, may become, the likeliest first."""
    columns = {name: set(meanings) for name, (_, meanings) in catalog.describe().items()}
    if text.lstrip().startswith("."):
        command, _, rest = text.lstrip().partition(" ")
        if command == ".schema" and text[-1:] != command[-1:]:
            return _starting(rest.strip(), sorted(columns))
        return _starting(command, _COMMANDS)
    word = re.findall(r"\w*$", text)[0].lower()
    before = re.findall(r"\w+|[^\w\s]", text[: len(text) - len(word)].lower())
    if before and before[-1] in ("from", "join", "describe", "summarize"):  # where tables, views and macros stand
        return _starting(word, sorted([*columns, *catalog.ranked()]))
    if not word:
        return ()
    named = set[str]().union(*(columns[name] for name in before if name in columns))
    others = set() if named else set[str]().union(*columns.values())
    return _starting(word, [*sorted(named), *WORDS["completed"], *sorted(columns), *sorted(others)])


def _starting(word: str, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(word) and name != word]


def history_file() -> Path:
    """Return where the prompt keeps what was typed: in the home's state folder."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "neuronlake" / "history"
