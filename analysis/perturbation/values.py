"""What was read in each cell of a study, kept on disk while it runs, and found again in earlier studies."""

import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...errors import StoreError
from ...queries.database import Database
from ...schema.commits import neuronlake_version
from .settings import SHARED

__all__ = ["CellValues", "earlier_values", "known_cells"]


class CellValues:
    """Values read in cells, one file a cell.

    Parameters
    ----------
    folder
        Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, cell_id: str) -> NDArray[np.float32] | None:
        """Return the values of a cell, None if it was not read yet. [functions or 1, instances]."""
        try:
            # Opened here, as numpy leaves a file open that is no archive.
            with self._path(cell_id).open("rb") as file, np.load(file) as found:
                values: NDArray[np.float32] = found["values"]
        except (FileNotFoundError, zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError):
            return None  # not there, or not written out when the machine went down: it is read again
        return values

    def put(self, cell_id: str, values: NDArray[np.float32]) -> None:
        """Keep the values of a cell [functions or 1, instances].

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        path = self._path(cell_id)
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                np.savez_compressed(file, values=values)
            partial.replace(path)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error

    def __len__(self) -> int:
        return sum(1 for _ in self._folder.glob("*.npz"))

    def _path(self, cell_id: str) -> Path:
        return self._folder / f"{cell_id}.npz"


def known_cells(database: Database, cell_ids: Iterable[str]) -> Mapping[str, str]:
    """Return which cells earlier studies of the store have read, by this version of neuronlake.

    Parameters
    ----------
    database
        The store.
    cell_ids
        The cells wanted.

    Returns
    -------
    known
        By cell_id, the perturbation_id of a study that has read it.
    """
    query = """
        select cell_id, any_value(perturbation_id) as perturbation_id
        from (select distinct cell_id, perturbation_id from perturbations)
        inner join perturbation_studies using (perturbation_id)
        where neuronlake_version = $version and list_contains($cells, cell_id)
        group by cell_id
    """
    rows = database.sql(query, {"version": neuronlake_version(), "cells": list(cell_ids)}).pl()
    return dict(rows.select("cell_id", "perturbation_id").rows())


def earlier_values(
    database: Database,
    cell_ids: Iterable[str],
    baseline: NDArray[np.float32],
    functions: Sequence[tuple[str, str]],
    instance_id: NDArray[np.int64],
) -> Mapping[str, NDArray[np.float32]]:
    """Return the values of cells that earlier studies of the store have read, by this version of neuronlake.

    Parameters
    ----------
    database
        The store.
    cell_ids
        The cells wanted.
    baseline
        Values without a perturbation. [functions or 1, instances]
    functions
        The functions of the values.
    instance_id
        The instances of the values. [instances]

    Returns
    -------
    values
        By cell_id. [functions or 1, instances] each
    """
    known = known_cells(database, cell_ids)
    if not known:
        return {}
    query = """
        select cell_id, target_family, target_function, instance_id, value
        from perturbed_instances
        where list_contains($keys, perturbation_id || cell_id)
    """
    keys = [perturbation_id + cell_id for cell_id, perturbation_id in known.items()]
    rows = database.sql(query, {"keys": keys}).pl()
    place = pl.DataFrame({"instance_id": instance_id, "column": np.arange(len(instance_id))})
    names = list(functions) if len(baseline) > 1 else [(SHARED, SHARED)]
    row = pl.DataFrame(
        {
            "target_family": [family for family, _ in names],
            "target_function": [function for _, function in names],
            "row": np.arange(len(names)),
        }
    )
    rows = rows.join(place, on="instance_id").join(row, on=["target_family", "target_function"])
    changed = {str(each["cell_id"][0]): each for each in rows.partition_by("cell_id")}
    values = {}
    for cell_id in known:
        values[cell_id] = baseline.copy()
        if cell_id in changed:
            each = changed[cell_id]
            values[cell_id][each["row"].to_numpy(), each["column"].to_numpy()] = each["value"].to_numpy()
    return values
