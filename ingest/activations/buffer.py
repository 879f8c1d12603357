"""Pooled activations on disk: filled by instances, read by neurons, kept from one attempt at a job to the next.

A forward pass yields all neurons of one instance after another; scoring needs one neuron's activations over all
instances. The file holds sections of instances, as [neurons, instances of the section] behind their size and
checksum. A section is a hundredth of the instances at most, which is what a killed process loses; a section that a
power cut tore or lost fails its checksum and is run again.
"""

import struct
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import IngestError, StoreError
from ...schema.disk import store_errors
from ...schema.vocabulary import Storage

_HEADER = struct.Struct("<QQ")  # instances of a section, and the checksum of its values
_SECTIONS = 100
_PENDING = 2  # batches under way at most: one is copied or written while another runs


class Buffer:
    """A matrix [neurons, instances] in a file, the neurons of all layers one after another.

    Whole sections that an earlier attempt left in the file are kept, and what follows them is cut off. The section that
    is being filled takes at most `memory_bytes`.
    """

    def __init__(self, path: Path, n_neurons: int, n_instances: int, *, storage: Storage, memory_bytes: int) -> None:
        self._path = path
        self._dtype = np.dtype(storage)
        capacity = max(1, min(-(-n_instances // _SECTIONS), memory_bytes // (n_neurons * self._dtype.itemsize)))
        self._section = torch.empty((n_neurons, capacity), dtype=getattr(torch, storage))
        self._n_filled = 0
        self._written: list[tuple[int, int]] = []  # where the values of each section begin, and its instances
        with store_errors(f"cannot write {path}"), path.open("a+b") as file:
            self._end = self._read_kept(file, n_instances)
            file.truncate(self._end)

    @property
    def n_instances(self) -> int:
        """Number of instances so far."""
        return sum(n for _, n in self._written) + self._n_filled

    def append(self, pooled: Sequence[torch.Tensor], *, first: int) -> None:
        """Add activations, [instances, neurons] a layer, from place `first` on; what the buffer has is skipped."""
        done = self.n_instances - first
        while done < len(pooled[0]):
            n = min(len(pooled[0]) - done, self._section.shape[1] - self._n_filled)
            row = 0
            for layer in pooled:
                part = layer[done : done + n]
                target = self._section[row : row + part.shape[1], self._n_filled : self._n_filled + n]
                highest = float(part.abs().max()) if target.dtype == torch.float16 else 0.0
                if highest > torch.finfo(torch.float16).max:
                    problem = f"an activation of {highest:.4g} is beyond the range of float16"
                    raise IngestError(f"{problem}; store activations as float32")
                target.copy_(part.T)
                row += part.shape[1]
            self._n_filled += n
            done += n
            if self._n_filled == self._section.shape[1]:
                self.flush()

    def flush(self) -> None:
        """Write the section in memory."""
        if not self._n_filled:
            return
        values = self._section[:, : self._n_filled].contiguous().numpy()
        with store_errors(f"cannot write {self._path}"), self._path.open("r+b") as file:
            file.seek(self._end)
            file.write(_HEADER.pack(self._n_filled, zlib.crc32(values.data)))
            file.write(values.data)
        self._written.append((self._end + _HEADER.size, self._n_filled))
        self._end += _HEADER.size + values.nbytes
        self._n_filled = 0

    def block(self, start: int, stop: int, *, into: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the activations of neurons `start` to `stop`, C-contiguous, over all instances that were written.

        They are written `into` another block, if one of as many neurons or more is given.
        """
        if into is None or len(into) < stop - start:
            into = np.empty((stop - start, sum(n for _, n in self._written)), dtype=np.float32)
        block, column = into[: stop - start], 0  # [neurons, instances]
        with store_errors(f"cannot read {self._path}"), self._path.open("rb") as file:
            for begin, n_columns in self._written:
                values = np.empty((stop - start, n_columns), dtype=self._dtype)
                file.seek(begin + start * n_columns * self._dtype.itemsize)
                if file.readinto(values.data) < values.nbytes:
                    raise StoreError(f"cannot read {self._path}: it is shorter than what was written")
                # Torch converts float16 several times as fast as numpy.
                torch.from_numpy(block[:, column : column + n_columns]).copy_(torch.from_numpy(values))
                column += n_columns
        return block

    def _read_kept(self, file: BinaryIO, n_instances: int) -> int:
        """Find the whole sections of the file; return where the last of them ends."""
        end = file.seek(0)
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            n_columns, checksum = _HEADER.unpack(header)
            if not 0 < n_columns <= n_instances:
                break
            values = file.read(n_columns * len(self._section) * self._dtype.itemsize)
            if zlib.crc32(values) != checksum:
                break
            self._written.append((end + _HEADER.size, n_columns))
            end += _HEADER.size + len(values)
        return end


def fill(buffers: Sequence[Buffer], batches: Iterable[tuple[int, Sequence[Sequence[torch.Tensor]]]]) -> None:
    """Append batches to buffers in order, on another thread, while the next batch is computed.

    A batch is the place of its first instance among all and, for each buffer, one tensor [instances, neurons] a layer.
    From a GPU, values are copied to pinned memory; the other thread waits for the copies, not the next forward pass.
    """

    def append(batch: list[list[torch.Tensor]], first: int, copied: list[torch.cuda.Event]) -> None:
        for event in copied:
            event.synchronize()
        for buffer, tensors in zip(buffers, batch, strict=True):
            buffer.append(tensors, first=first)

    thread = ThreadPoolExecutor(1, thread_name_prefix="buffer")
    pending: deque[Future[None]] = deque()
    streams: dict[torch.device, torch.cuda.Stream] = {}
    try:
        for first, batch in batches:
            while len(pending) >= _PENDING:
                pending.popleft().result()
            on_host = [[_to_host(tensor, streams) for tensor in tensors] for tensors in batch]
            copied = [stream.record_event() for stream in streams.values()]
            del batch  # the device needs its memory for the next one
            pending.append(thread.submit(append, on_host, first, copied))
        for future in pending:
            future.result()
    finally:
        thread.shutdown(cancel_futures=True)


def _to_host(tensor: torch.Tensor, streams: dict[torch.device, torch.cuda.Stream]) -> torch.Tensor:
    """Return a tensor on the CPU; from a GPU it comes by the stream of its device, beside what is computed next."""
    device = tensor.device
    if device.type != "cuda":
        return tensor.cpu()
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    streams[device].wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(streams[device]):
        rows = tensor.T.contiguous()  # as a buffer keeps them: a GPU turns them many times as fast as the CPU
        host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True).copy_(rows, non_blocking=True)
    tensor.record_stream(streams[device])  # its memory is not used again before it is copied
    return host.T
