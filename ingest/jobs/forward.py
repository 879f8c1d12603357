"""The forward pass of a measurement: texts in, pooled activations out, kept on disk from one attempt to the next."""

import contextlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import StoreError
from ...progress import Progress
from ...schema.commits import neuronlake_version
from ..activations.batches import collate
from ..activations.buffer import Spool
from ..activations.capture import Capture, capture
from ..activations.drain import Drain
from ..activations.tokens import Batch
from ..models.devices import device_name
from ..neurons.feed_forwards import Layer
from .measurement import Measurement

__all__ = ["ForwardPass", "estimate_seconds"]


class ForwardPass:
    """The pooled activations of some layers over all instances, and the shares of their tokens that experts get.

    Parameters
    ----------
    work
        What is measured.
    layers
        Layers that are needed. Where an earlier attempt began on these and more, it is gone on with.
    folder
        Where activations are kept. What an earlier attempt left there is used where it is of the same run, batches,
        device and versions; else it is deleted, and `progress` told why.
    progress
        Where to report.

    Raises
    ------
    StoreError
        If the disk refuses.
    """

    def __init__(self, work: Measurement, layers: Sequence[Layer], folder: Path, progress: Progress) -> None:
        self._work = work
        self._folder = folder
        self._batches = list(work.batches())
        self._lengths = np.diff(work.tokens.token_start)
        try:
            self.layers = _begun(work, layers, folder, progress)
        except OSError as error:
            raise StoreError(f"cannot write {folder}: {error.strerror or error}") from error
        n_neurons = sum(layer.n_neurons for layer in self.layers)
        n_experts = sum(layer.n_native_experts for layer in self.layers)
        n_instances = len(work.tokens.instance_id)
        memory_bytes = work.section_bytes * n_neurons // (n_neurons + n_experts)
        self._activations = Spool(
            folder / "activations.bin", n_neurons, n_instances, storage=work.settings.storage, memory_bytes=memory_bytes
        )
        self._routing: Spool | None = None
        if n_experts:
            # Shares of tokens are kept as they are: small beside the activations, and sums of them must come out.
            rest = work.section_bytes - memory_bytes
            self._routing = Spool(folder / "routing.bin", n_experts, n_instances, storage="float32", memory_bytes=rest)

    @property
    def percent(self) -> int:
        """How much of the pass is done, by tokens; 100 is all of it."""
        n_tokens = self._work.tokens.n_tokens
        return 100 * (n_tokens - self._n_tokens(self._missing())) // n_tokens

    def run(self, progress: Progress) -> None:
        """Run every text that no earlier attempt ran.

        Raises
        ------
        IngestError
            If a value does not fit the storage type, or the model does not run as it was read.
        StoreError
            If the disk refuses; what it took is kept.
        """
        missing, spools = self._missing(), self._spools()
        if len(missing) < len(self._batches):
            progress.note(f"going on at {self.percent}% of the forward pass, kept from an earlier attempt")
        if not missing:
            return
        progress.phase("forward", total=self._n_tokens(missing), unit="tokens")
        work = self._work
        try:
            with torch.inference_mode(), _reader(work, self.layers) as reading, Drain(*spools) as drain:
                for batch in missing:
                    _run(work, reading, batch)
                    routed = [] if self._routing is None else [reading.routed()]
                    drain.put(reading.pooled(), *routed, first=batch.first)
                    progress.advance(self._n_tokens([batch]))
        except BaseException:
            with contextlib.suppress(StoreError):
                self._flush()
            raise
        self._flush()

    def blocks(self, layer: Layer) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the activations of a layer, some neurons at a time, with the index of the first of them."""
        first = sum(each.n_neurons for each in self.layers[: self.layers.index(layer)])
        size = self._work.block_neurons
        for start in range(0, layer.n_neurons, size):
            stop = min(start + size, layer.n_neurons)
            yield start, self._activations.block(first + start, first + stop)

    def shares(self, layer: Layer) -> NDArray[np.float32] | None:
        """Return the share of each instance's tokens that each expert of a layer got; None where there are none."""
        if self._routing is None or not layer.n_native_experts:
            return None
        first = sum(each.n_native_experts for each in self.layers[: self.layers.index(layer)])
        return self._routing.block(first, first + layer.n_native_experts)

    def discard(self) -> None:
        """Delete what is kept."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _spools(self) -> tuple[Spool, ...]:
        return (self._activations,) if self._routing is None else (self._activations, self._routing)

    def _flush(self) -> None:
        for spool in self._spools():
            spool.flush()

    def _missing(self) -> list[Batch]:
        n_done = min(spool.n_instances for spool in self._spools())
        return [batch for batch in self._batches if batch.last > n_done]

    def _n_tokens(self, batches: Sequence[Batch]) -> int:
        return sum(int(self._lengths[batch.texts].sum()) for batch in batches)


def _begun(work: Measurement, layers: Sequence[Layer], folder: Path, progress: Progress) -> tuple[Layer, ...]:
    """Return the layers of the pass that was begun in a folder; where it cannot go on, begin one over `layers`."""
    record = folder / "pass.json"
    wanted: dict[str, Any] = {
        "run": work.run_id,
        "batch tokens": work.batch_tokens,
        "device": device_name(work.model.module),
        "torch": str(torch.__version__),
        "transformers": importlib.metadata.version("transformers"),
        "neuronlake": neuronlake_version(),
    }
    try:
        kept = dict(json.loads(record.read_text()))
    except (FileNotFoundError, TypeError, ValueError):  # none was begun, or was killed before it ran a text
        kept = None
    if kept is not None:
        changed = [name for name, value in wanted.items() if kept.get(name) != value]
        begun = () if changed else tuple(each for each in work.layers if [each.stack, each.layer] in kept["layers"])
        if begun and set(layers) <= set(begun):
            return begun
        reason = f"{changed[0]} {kept.get(changed[0])}, not {wanted[changed[0]]}" if changed else "other layers"
        progress.note(f"the forward pass starts over: an earlier attempt was of {reason}")
    for file in folder.iterdir():
        file.unlink()
    record.write_text(json.dumps({**wanted, "layers": [(layer.stack, layer.layer) for layer in layers]}))
    return tuple(layers)


def _reader(work: Measurement, layers: Sequence[Layer]) -> AbstractContextManager[Capture]:
    settings = work.settings
    return capture(
        work.model.module,
        layers,
        site=settings.site,
        pooling=settings.pooling,
        router=settings.router,
        ends_early=settings.layers is not None or len(layers) < len(work.layers),
    )


def _run(work: Measurement, reading: Capture, batch: Batch) -> None:
    """Run one batch and pool what is read of it."""
    inputs, spans = collate(work.model, work.tokens, work.targets, batch)
    with reading.batch(spans):
        work.model.module(**inputs)


def estimate_seconds(work: Measurement) -> float:
    """Time a few batches spread over the lengths and extrapolate to all tokens: seconds of wall time."""
    batches = list(work.batches())
    chosen = [batches[int(place)] for place in np.unique(np.linspace(0, len(batches) - 1, 3).round())]
    lengths = np.diff(work.tokens.token_start)
    with torch.inference_mode(), _reader(work, work.layers) as reading:
        _run(work, reading, chosen[-1])  # the first pass warms up
        start = time.perf_counter()
        for batch in chosen:
            _run(work, reading, batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return seconds * work.tokens.n_tokens / sum(int(lengths[batch.texts].sum()) for batch in chosen)
