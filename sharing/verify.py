"""Verification: whether what is shared is whole, agrees with itself, and is what its models give."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..queries.database import Database
from ..queries.statements import statement
from ..queries.status import check_store
from ..schema.leftovers import Problem
from ..schema.store import Store
from ..schema.stores.union import Place
from ..schema.tables import TABLES
from .jobs import DEFINED_BY, Inventory
from .transfer import at_hand

# Tables whose rows each need the row of another that the columns of its grain name, by the other.
_NEEDED_BY = {
    "runs": ("layers", "run_functions"),
    "layers": ("neurons", "neuron_functions", "neuron_best", "function_top_neurons", "control_best"),
    "control_functions": ("control_top_neurons",),
    "instances": ("top_instances", "labels"),
    "texts": ("instances",),
    "functions": ("labels",),
    "partitions": ("experts",),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify_store` found, and how much it read."""

    problems: tuple[Problem, ...]  # what is wrong, by path or table; none if all is well
    n_files: int
    n_runs: int

    def describe(self) -> str:
        """Return the verdict as one line."""
        verdict = f"{len(self.problems):,} problems" if self.problems else "whole, and agrees with itself"
        return f"{self.n_files:,} files of {self.n_runs:,} runs: {verdict}"


def verify_store(store: Place) -> Verdict:
    """Read every file of a store or pack, and hold its tables against each other.

    Commits and digests, columns, types, NULL and NaN, keys that are there twice; rows that refer to what is not there;
    scores that are missing of some neuron or function; best functions and top neurons that do not follow from scores.
    What is in one file or at a URL is copied first, into a temporary folder.

    Parameters
    ----------
    store
        The store's folder, a pack in one file, or a URL; several are verified as one.

    Raises
    ------
    StoreError
        If there is no store, or it cannot be read.

    Examples
    --------
    >>> neuronlake.verify_store("neuronlake-store").problems
    ()
    """
    with at_hand(store) as folder:
        report = check_store(folder.path)
        problems = list(report.problems)
        if not problems:  # else what follows would say the same again
            with Database(folder) as database:
                problems += [*_unmade(folder), *_unjoined(database), *_disagreeing(database)]
        n_runs = sum(commit.kind == "run" for commit in folder.commits())
    return Verdict(tuple(problems), report.n_files, n_runs)


def _unmade(store: Store) -> Iterator[Problem]:
    """Yield what jobs refer to and no job makes."""
    every = Inventory(store).jobs
    made = {key for job in every for key in job.makes}
    for job in every:
        for name, of in sorted(job.refers - made):
            yield Problem(f"commits/{job.commit.job}", f"refers to {name} {of}, of which {DEFINED_BY[name]} has no row")


def _unjoined(database: Database) -> Iterator[Problem]:
    """Yield the tables with rows that refer to rows that are not there."""
    for table, other in ((table, other) for other, tables in _NEEDED_BY.items() for table in tables):
        if database.committed[table]:
            columns = TABLES[other].grain
            keys = ", ".join(columns)
            rows = database.sql(
                f"select {keys}, count(*) from {table} anti join {other} using ({keys}) group by all order by all"
            )
            for *values, n_rows in rows.rows()[:3]:
                where = ", ".join(f"{name} {value}" for name, value in zip(columns, values, strict=True))
                yield Problem(f"data/{table}", f"{n_rows:,} rows of {where}, of which {other} has no row")


def _disagreeing(database: Database) -> Iterator[Problem]:
    """Yield layers whose scores are not one for each neuron and function, or whose lists do not follow from them."""
    for row in database.sql(statement("verify_scores")).rows():
        run_id, stack, layer, what, n = row
        yield Problem("data/neuron_functions", f"run {run_id}, {stack} layer {layer}: {n:,} {what}")
