"""The interactive prompt over a store."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from ..errors import NeuronlakeError, QueryError, StoreError, UnknownNameError
from ..schema.tables import TABLES
from . import catalog, output
from .completion import COMMANDS, Completer
from .database import Database

__all__ = ["answer", "history_file", "run_shell"]


def run_shell(database: Database) -> None:
    """Read statements and print their rows until the person leaves.

    A statement ends with ``;`` and may take several lines. Ctrl-C drops what is typed, or stops what runs;
    Ctrl-D leaves.

    Raises
    ------
    StoreError
        If the folder of the history cannot be made.
    QueryError
        If what is piped in is not UTF-8 text.
    """
    if not sys.stdin.isatty():
        # Piped input: no prompt, no echo.
        for statement in _piped().split(";"):
            if not answer(database, statement, sys.stdout):
                return
        return

    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completion
    from prompt_toolkit.completion import Completer as ToolkitCompleter
    from prompt_toolkit.document import Document
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.history import FileHistory

    completer = Completer()

    class Words(ToolkitCompleter):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            text = document.text_before_cursor
            word = document.get_word_before_cursor(WORD=text.lstrip().startswith("."))
            return (Completion(each, -len(word)) for each in completer.complete(text))

    file = history_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {file.parent}: {error.strerror or error}") from error
    session: PromptSession[str] = PromptSession(
        "neuronlake> ",
        history=FileHistory(str(file)),
        completer=Words(),
        complete_while_typing=False,
        multiline=Condition(lambda: not is_complete(session.default_buffer.text)),
        prompt_continuation="        ... ",
    )
    print("SQL ends with ; and .help lists more. Ctrl-D leaves.")
    while True:
        try:
            text = session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if not answer(database, text, sys.stdout):
            return


def _piped() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise QueryError(f"what is piped in is not UTF-8 text: byte {error.start + 1:,} is none") from error


def is_complete(text: str) -> bool:
    """Return whether Enter ends the input: an empty line, a command, or a statement with its semicolon."""
    stripped = text.strip()
    return not stripped or stripped.startswith(".") or stripped.endswith(";")


def answer(database: Database, text: str, stream: IO[str]) -> bool:
    """Answer one input, an error in one line; return False if it asks to leave."""
    command, _, name = text.strip().rstrip(";").strip().partition(" ")
    try:
        if command == ".quit":
            return False
        if command == ".refresh":
            database.refresh()
        elif command.startswith("."):
            stream.write(_answer_command(command, name.strip()))
        elif command:
            output.write(database.sql(text), stream)
    except NeuronlakeError as error:
        stream.write(f"error: {error}\n")
    except KeyboardInterrupt:
        stream.write("stopped\n")
    return True


def _answer_command(command: str, name: str) -> str:
    descriptions = {
        **{table.name: table.description for table in TABLES.values()},
        **{view.name: view.answers for view in catalog.views()},
    }
    if command == ".help":
        return _listed(COMMANDS)
    if command == ".tables":
        return _listed({name: text for name, text in descriptions.items() if name in TABLES})
    if command == ".views":
        return _listed({name: text for name, text in descriptions.items() if name not in TABLES})
    if command != ".schema":
        raise UnknownNameError("command", command, COMMANDS)
    if name not in descriptions:
        raise UnknownNameError("table or view", name, descriptions)
    columns = TABLES[name].columns if name in TABLES else catalog.view(name).columns
    return f"{name}: {descriptions[name]}\n" + _listed({column.name: column.description for column in columns})


def _listed(descriptions: Mapping[str, str]) -> str:
    width = max(map(len, descriptions))
    return "".join(f"  {name.ljust(width)}  {text}\n" for name, text in descriptions.items())


def history_file() -> Path:
    """Return where the prompt keeps what was typed: in the home's state folder."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "neuronlake" / "history"
