"""Pooled activations of all instances, in memory or on disk, read back neuron by neuron.

Scoring wants each neuron's activations over all instances side by side; a forward pass yields each
instance's neurons. The spool turns one into the other in chunks of instances that fit in memory, each kept as
[neurons, instances of the chunk]; a full chunk is written to one file, so that disk sees long sequential
writes and reads only.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import IngestError, StoreError

__all__ = ["Spool", "Storage"]

Storage = Literal["float32", "float16"]


class Spool:
    """A [neurons, instances] matrix that is filled by instances and read by neurons.

    Parameters
    ----------
    n_neurons
        Rows, over all layers.
    n_instances
        Columns that will come.
    storage
        Type to keep activations in; float16 halves the space and is refused for values beyond its range.
    memory_bytes
        Most memory to hold chunks in; past it they go to disk.
    folder
        Where chunk files go.
    """

    def __init__(self, n_neurons: int, n_instances: int, *, storage: Storage, memory_bytes: int, folder: Path) -> None:
        self.n_neurons = n_neurons
        self._dtype: torch.dtype = getattr(torch, storage)
        capacity = max(1, memory_bytes // (n_neurons * self._dtype.itemsize))
        self._chunk = torch.empty((n_neurons, min(capacity, n_instances)), dtype=self._dtype)
        self._n_filled = 0
        self._folder = folder
        self._written: list[tuple[Path, int]] = []

    @property
    def n_instances(self) -> int:
        """Instances held so far."""
        return sum(n for _, n in self._written) + self._n_filled

    @property
    def disk_bytes(self) -> int:
        """Bytes on disk so far."""
        return sum(n for _, n in self._written) * self.n_neurons * self._dtype.itemsize

    def append(self, pooled: Sequence[torch.Tensor]) -> None:
        """Add instances.

        Parameters
        ----------
        pooled
            Activations of the same instances, one tensor a layer. [instances, neurons of the layer]

        Raises
        ------
        IngestError
            If a value does not fit the storage type.
        StoreError
            If the disk refuses.
        """
        done = 0
        while done < len(pooled[0]):
            if self._n_filled == self._chunk.shape[1]:
                self._write_chunk()
            some = min(len(pooled[0]) - done, self._chunk.shape[1] - self._n_filled)
            first = 0
            for layer in pooled:
                part = layer[done : done + some]
                target = self._chunk[first : first + part.shape[1], self._n_filled : self._n_filled + some]
                if self._dtype == torch.float16 and float(part.abs().max()) > torch.finfo(torch.float16).max:
                    raise IngestError(
                        f"an activation of {float(part.abs().max()):.4g} is beyond the range of float16; "
                        "store activations as float32"
                    )
                target.copy_(part.T)
                first += part.shape[1]
            self._n_filled += some
            done += some

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the activations of some neurons over all instances, in the order appended.

        Returns
        -------
        array
            float32, C-contiguous. [stop - start, instances]
        """
        block = np.empty((stop - start, self.n_instances), dtype=np.float32)
        column = 0
        for path, n_columns in self._written:
            dtype = np.dtype(str(self._dtype).removeprefix("torch."))
            try:
                values = np.fromfile(
                    path,
                    dtype=dtype,
                    count=(stop - start) * n_columns,
                    offset=start * n_columns * dtype.itemsize,
                )
            except OSError as error:
                raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
            if values.size < (stop - start) * n_columns:
                raise StoreError(f"cannot read {path}: it is shorter than what was written")
            block[:, column : column + n_columns] = values.reshape(stop - start, n_columns)
            column += n_columns
        block[:, column:] = self._chunk[start:stop, : self._n_filled].numpy()
        return block

    def _write_chunk(self) -> None:
        path = self._folder / f"activations-{len(self._written)}.bin"
        try:
            self._chunk.numpy().tofile(path)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
        self._written.append((path, self._n_filled))
        self._n_filled = 0
