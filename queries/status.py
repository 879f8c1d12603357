"""What a store holds and lacks, with the commands that add it, and whether it is whole."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from ..schema.leftovers import Problem, State
from ..schema.store import Store
from ..schema.stores.union import Place
from . import cache
from .database import Database
from .result import Result

_ROW = "struct(part varchar, what varchar, n bigint, names varchar, command varchar)"
# What is said of a folder in .staging.
STATES: Mapping[State, str] = {
    "running": "a job is running",
    "unfinished": "a job was stopped; the same command goes on from what it has done (delete the folder to give it up)",
    "garbage": "left by a job that was killed; the next job, or 'check --repair', removes it",
}


def store_status(store: Place) -> Result:
    """Return what a store holds, what of it lacks a comparison or a test, and the commands that add these.

    Commands name a model as the store does: of a model that was measured from a folder, give the folder and its name
    as ``--name``.

    Parameters
    ----------
    store
        The store's folder, a pack in one file, or a URL; several are read as one.

    Returns
    -------
    Result
        Columns ``part`` (holds or lacks), ``what``, ``n`` (of how many), ``names`` (of which, the first five) and
        ``command`` (NULL of what is held, and where the command that was stopped is to be given again).

    Raises
    ------
    StoreError
        If there is no store, or it cannot be read.

    Examples
    --------
    >>> status = neuronlake.store_status("neuronlake-store").pl()
    >>> status["what"][0], status["n"][0]
    ('checkpoints of tiny-bert', 1)
    >>> status["command"].drop_nulls()[0]
    'neuronlake ingest tiny-bert --corpus animals --random-init 0 --max-tokens=64'
    """
    database = Database(store)  # left open: what it returns lives in it
    rows = [{"part": "holds", **row} for row in database.ask("status_holds")]
    rows += [{"part": "lacks", **row} for row in gaps(database)]
    if not database.store.is_read_only:
        rows += _unfinished(database)
    return database.sql(f"select unnest(cast(? as {_ROW}[]), recursive := true)", [rows])


def gaps(database: Database, run_id: str | None = None) -> list[dict[str, object]]:
    """Return what a run lacks, or all of a store, with the commands that add it: ``what, n, names, command``."""
    found = database.ask("status_lacks", run_id=run_id).arrow().to_pylist()
    return [row | {"command": shlex.join(["neuronlake", *row.pop("words")])} for row in found]


def _unfinished(database: Database) -> list[dict[str, object]]:
    """Return what is to be computed anew or removed in a store on this disk."""
    outdated = [str(row["name"]) for row in database.describe_views() if row["not_read_because"]]
    n_unranked = len(database.committed["unlisted_scores"])
    found: list[tuple[str, int, list[str], str | None]] = [
        ("kept views that are out of date", len(outdated), outdated, f"neuronlake materialize {' '.join(outdated)}"),
        ("files of scores without what comes first in them", n_unranked, [], "neuronlake materialize"),
    ]
    by_state: dict[State, list[str]] = {}
    for job, state in database.store.unfinished().items():
        by_state.setdefault(state, []).append(job)
    for state, jobs in by_state.items():
        found.append((STATES[state], len(jobs), jobs, "neuronlake check --repair" if state == "garbage" else None))
    return [
        {"part": "lacks", "what": what, "n": n, "names": ", ".join(names[:5]), "command": command}
        for what, n, names, command in found
        if n
    ]


@dataclass(frozen=True, slots=True)
class StoreReport:
    """The state of a store."""

    n_files: int  # committed files, all of them read
    problems: tuple[Problem, ...]  # what is wrong, by path
    repaired: tuple[Problem, ...]  # what was removed or renewed before the check
    unfinished: Mapping[str, State]  # state of each job that has not committed, by its name in paths


def check_store(store: str | os.PathLike[str], *, repair: bool = False) -> StoreReport:
    """Check a store: commits, every committed file to its last row, kept views and the card.

    Every file is compared with its recorded size and digest, and its rows with the declared table: columns, types,
    NULL and NaN, repeated keys.

    Parameters
    ----------
    store
        The store's folder.
    repair
        First remove what killed jobs left and nobody can use, and kept views that are corrupt; renew the card.

    Raises
    ------
    StoreError
        If there is no store, or it cannot be read.

    Examples
    --------
    >>> neuronlake.check_store("neuronlake-store").problems
    ()
    """
    target = Store(store)
    target.require()
    repaired = (*target.repair(), *cache.remove_useless(target)) if repair else ()
    problems = (*target.check(), *cache.problems(target))
    n_files = sum(len(commit.files) for commit in target.commits())
    return StoreReport(n_files, problems, repaired, target.unfinished())
