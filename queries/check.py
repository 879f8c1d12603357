"""Whether a store is whole: its commits, files and rows, its kept views, and what killed jobs left."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ..schema.leftovers import Problem, State
from ..schema.store import Store
from . import cache


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
