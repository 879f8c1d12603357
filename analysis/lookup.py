"""Runs and partitions of a store, found by what people type: the beginning of an id, or a model."""

from collections.abc import Mapping
from typing import cast

from ..errors import AnalysisError, UnknownNameError
from ..queries.database import Database
from ..queries.quoting import name as quoted
from ..schema.tables import table

__all__ = ["find_partition", "find_run"]


def find_run(
    database: Database, prefix: str | None, model: str, *, revision: str | None = None, is_any: bool = False
) -> dict[str, object]:
    """Return the row of ``runs`` whose id begins with `prefix`, or that is the only one of a stored model.

    Parameters
    ----------
    database
        The store's database.
    prefix
        Beginning of the run_id; None for the only run.
    model, revision
        What the run is of. If no revision is given, a run that is named may be of any; else it is ``main``, or, of a
        model without, the only one.
    is_any
        Whether, without a prefix, any run of one revision will do: then it is the one of most layers.

    Raises
    ------
    UnknownNameError
        If there is no such run, or more than one; listing runs.
    AnalysisError
        If the run of this id is of another model or revision.
    """
    if prefix is None:
        return _run_of_model(database, model, revision, is_any=is_any)
    found = _find(database, "runs", prefix, ("model", "revision", "corpus", "site"))
    if found["model"] != model or revision not in (None, found["revision"]):
        asked = model if revision is None else f"{model} {revision}"
        raise AnalysisError(f"run {found['run_id']} is of {found['model']} {found['revision']}, not of {asked}")
    return found


def find_partition(database: Database, prefix: str) -> dict[str, object]:
    """Return the row of ``partitions`` whose id begins with `prefix`.

    Raises
    ------
    UnknownNameError
        If no id, or more than one, begins with it; listing partitions.
    """
    return _find(database, "partitions", prefix, ("model", "revision", "method", "n_experts"))


def _run_of_model(database: Database, model: str, revision: str | None, *, is_any: bool) -> dict[str, object]:
    runs = [row for row in database.sql("select * from runs order by run_id") if row["model"] == model]
    if not runs:
        models = {str(row["model"]) for row in database.sql("select distinct model from runs")}
        raise UnknownNameError("model", model, models, where=database.store.path)
    revisions = {str(row["revision"]) for row in runs}
    if revision is None and "main" in revisions:
        revision = "main"
    found = [row for row in runs if revision in (None, row["revision"])]
    if not found:
        where = f"{model} in {database.store.path}"
        raise UnknownNameError("revision", str(revision), revisions, where=where)
    if is_any and len({row["revision"] for row in found}) == 1:
        query = "select run_id, count(*) as n_layers from layers group by all"
        n_layers = {row["run_id"]: cast("int", row["n_layers"]) for row in database.sql(query)}
        return max(found, key=lambda row: n_layers.get(row["run_id"], 0))
    if len(found) > 1:
        of = model if revision is None else f"{model} {revision}"
        listed = [_described(row, "run_id", ("revision", "corpus", "site", "pooling")) for row in found]
        raise UnknownNameError("single run", of, listed, where=f"{database.store.path} (`run` chooses one)")
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
