"""Runs and partitions of a store, found by what people type: the beginning of an id, or a model."""

from collections.abc import Mapping

from ..errors import UnknownNameError
from ..queries.database import Database
from ..queries.quoting import name as quoted
from ..schema.tables import table

__all__ = ["find_model_run", "find_partition", "find_run"]


def find_run(database: Database, prefix: str) -> dict[str, object]:
    """Return the row of ``runs`` whose id begins with `prefix`.

    Raises
    ------
    UnknownNameError
        If no id, or more than one, begins with it; listing runs.
    """
    return _find(database, "runs", prefix, ("model", "revision", "corpus", "site"))


def find_partition(database: Database, prefix: str) -> dict[str, object]:
    """Return the row of ``partitions`` whose id begins with `prefix`.

    Raises
    ------
    UnknownNameError
        If no id, or more than one, begins with it; listing partitions.
    """
    return _find(database, "partitions", prefix, ("model", "revision", "method", "n_experts"))


def find_model_run(database: Database, model: str, *, revision: str | None = None) -> dict[str, object]:
    """Return the row of ``runs`` that is the only one of a stored model, or of one of its revisions.

    Raises
    ------
    UnknownNameError
        If there is no run of it, or more than one; listing runs.
    """
    runs = [row for row in database.sql("select * from runs order by run_id") if row["model"] == model]
    if not runs:
        models = {str(row["model"]) for row in database.sql("select distinct model from runs")}
        raise UnknownNameError("model", model, models, where=database.store.path)
    found = [row for row in runs if revision in (None, row["revision"])]
    if not found:
        where = f"{model} in {database.store.path}"
        raise UnknownNameError("revision", str(revision), {str(row["revision"]) for row in runs}, where=where)
    if len(found) > 1:
        of = model if revision is None else f"{model} {revision}"
        listed = [_described(row, "run_id", ("revision", "corpus", "site")) for row in found]
        raise UnknownNameError("single run", of, listed, where=database.store.path)
    return found[0]


def _find(database: Database, name: str, prefix: str, shown: tuple[str, ...]) -> dict[str, object]:
    (key,) = table(name).grain
    rows = list(database.sql(f"select * from {quoted(name)} order by {quoted(key)}"))
    found = [row for row in rows if str(row[key]).startswith(prefix)]
    if len(found) == 1:
        return found[0]
    kind = "single " * bool(found) + name.removesuffix("s")
    raise UnknownNameError(
        kind, prefix, [_described(row, key, shown) for row in found or rows], where=database.store.path
    )


def _described(row: Mapping[str, object], key: str, shown: tuple[str, ...]) -> str:
    return f"{row[key]} ({', '.join(str(row[column]) for column in shown if row[column] is not None)})"
