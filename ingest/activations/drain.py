"""From the device to the spools, while the next batch runs."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch

from .buffer import Spool

__all__ = ["Drain"]

# Batches under way at most: one is copied or spooled while another runs.
_PENDING = 2


class Drain:
    """Takes each batch's pooled values off the device and into spools on a thread of its own, in order.

    On a GPU the copies go to pinned memory and the device is not waited for: the thread waits for the copies, and the
    forward pass of the next batch runs on.

    Parameters
    ----------
    spools
        Where values go.
    """

    def __init__(self, *spools: Spool) -> None:
        self._spools = spools
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="drain")
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> "Drain":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for what is under way; its errors are raised unless there is one already."""
        try:
            while self._pending and kind is None:
                self._pending.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)

    def put(self, *batch: Sequence[torch.Tensor], first: int) -> None:
        """Hand over one batch: for each spool, one tensor [instances, rows] a layer.

        Parameters
        ----------
        batch
            The tensors.
        first
            Place of the first instance among all.

        Raises
        ------
        IngestError
            If a value of an earlier batch does not fit the storage type.
        StoreError
            If the disk refused an earlier batch.
        """
        while len(self._pending) >= _PENDING:
            self._pending.popleft().result()
        on_host = [[_to_host(tensor) for tensor in tensors] for tensors in batch]
        events = _events({tensor.device for tensors in batch for tensor in tensors})
        self._pending.append(self._thread.submit(self._append, on_host, first, events))

    def _append(self, batch: list[list[torch.Tensor]], first: int, events: list[torch.cuda.Event]) -> None:
        for event in events:
            event.synchronize()
        for spool, tensors in zip(self._spools, batch, strict=True):
            spool.append(tensors, first=first)


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.device.type == "cpu":
        return tensor
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def _events(devices: set[torch.device]) -> list[torch.cuda.Event]:
    """Return one event for each GPU that has happened when its copies have."""
    events = []
    for device in devices:
        if device.type == "cuda":
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(device))
            events.append(event)
    return events
