"""Names that a store has, as types of options and arguments: what a shell completes."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import click
from click.shell_completion import CompletionItem

from ..errors import printable
from .printing import named_stores

_Rows = Iterable[Sequence[object]]  # of a name, and what it is


class Stored(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A name in the store, any text; `names` are those that a shell completes, with what each is, or their statement.

    Where none begins as the word does, it is `otherwise` that is completed, such as ``file``.
    """

    def __init__(self, name: str, names: str | Callable[[], _Rows], *, otherwise: str | None = None) -> None:
        self.name, self._names, self._otherwise = name, names, otherwise

    def shell_complete(self, ctx: click.Context, param: click.Parameter, word: str) -> "list[CompletionItem[str]]":
        """Return the names that begin so; none where the store is far away, or anything is wrong with it."""
        rows: _Rows = ()
        stores = named_stores(ctx)
        # A shell shows no error, and a person who only asks for names wants none.
        with contextlib.suppress(Exception):
            if callable(self._names):
                rows = self._names()
            elif not any("://" in store for store in stores):
                from ..queries.database import Database

                with Database(stores) as database:
                    rows = database.ask(self._names).rows()
        texts = [(str(name), printable(str(what))) for name, what in rows]
        items = [CompletionItem(name, help=what) for name, what in texts if name.startswith(word)]
        return items or ([CompletionItem(word, type=self._otherwise)] if self._otherwise else [])


def _described(*, has_tables: bool) -> _Rows:
    """Return the names of all views, and of tables if so, with what they hold."""
    from ..queries.catalog import TABLES, describe

    return [(name, line) for name, (line, _) in describe().items() if has_tables or name not in TABLES]


MODEL = Stored("model", "stored_models")
MODEL_OR_PATH = Stored("model", "stored_models", otherwise="file")
CORPUS = Stored("corpus", "stored_corpora")
RUN = Stored("run_id", "stored_runs")
PARTITION = Stored("partition", "stored_partitions")
FAMILY = Stored("family", "stored_families")
FUNCTION = Stored("function", "stored_functions")
JOB = Stored("job", "stored_jobs")
TABLE = Stored("name", partial(_described, has_tables=True))
VIEW = Stored("view", partial(_described, has_tables=False))
