"""The forward pass of a measurement: texts in, pooled activations out, kept on disk from one attempt to the next."""

import contextlib
import json
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import StoreError
from ...progress import Progress
from ...schema.commits import neuronlake_version
from ...schema.disk import store_errors
from ..activations.buffer import Buffer, fill
from ..activations.capture import Capture, capture
from ..activations.tokens import Batch, collate
from ..models.devices import device_name
from ..neurons.feed_forwards import Layer
from .measurement import Measurement
from .settings import transformers_version

_SAMPLED = 8  # batches that are run to see what all take


class ForwardPass:
    """One pass of the model over all texts, and the pooled activations of some layers; it goes on from `folder`."""

    def __init__(self, measurement: Measurement, layers: Sequence[Layer], folder: Path) -> None:
        self.measurement = measurement
        self.folder = folder
        self._batches = list(measurement.batches())
        self.layers = layers
        recorded = {**_definition(measurement), "layers": [(layer.stack, layer.layer) for layer in layers]}
        with store_errors(f"cannot write {folder}"):
            if not (folder / "pass.json").exists():
                (folder / "pass.json").write_text(json.dumps(recorded))
        n_neurons = sum(layer.n_neurons for layer in self.layers)
        n_experts = sum(layer.n_native_experts for layer in self.layers)
        n_instances, storage = measurement.tokens.n_instances, measurement.settings.storage
        # Beside batches under way, which take half; a section that is not full is copied to be written.
        section_bytes = max(1, measurement.request.resources.memory_bytes // 4)
        memory_bytes = section_bytes * n_neurons // (n_neurons + n_experts)
        file = folder / "activations.bin"
        self._buffers = [Buffer(file, n_neurons, n_instances, storage=storage, memory_bytes=memory_bytes)]
        self._used: list[NDArray[np.float32]] = []  # blocks to write others over
        if n_experts:
            # Shares of tokens are kept as they are: small beside the activations, and sums of them must come out.
            file, rest = folder / "routing.bin", section_bytes - memory_bytes
            self._buffers.append(Buffer(file, n_experts, n_instances, storage="float32", memory_bytes=rest))

    @property
    def percent(self) -> int:
        """How much of the pass is done, by tokens; 100 is all of it."""
        n_tokens = self.measurement.tokens.n_tokens
        return 100 * (n_tokens - sum(batch.n_tokens for batch in self._missing())) // n_tokens

    def run(self, progress: Progress) -> None:
        """Run every text that no earlier attempt ran; whatever stops it, the activations up to there are kept."""
        missing = self._missing()
        if len(missing) < len(self._batches):
            progress.note(f"going on at {self.percent}% of the forward pass, kept from an earlier attempt")
        if not missing:
            return
        progress.phase("forward", total=sum(batch.n_tokens for batch in missing), unit="tokens")
        try:
            with torch.inference_mode(), _reader(self.measurement, self.layers) as reading:
                fill(self._buffers, self._pooled(reading, missing, progress))
        except BaseException:
            with contextlib.suppress(StoreError):
                self._flush()
            raise
        self._flush()

    def blocks(self, layer: Layer) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the activations of a layer in blocks of neurons, each with the index of its first neuron.

        A block holds until the next one is asked for: a later one is written over it, as new memory costs as much as
        reading does.
        """
        first = sum(above.n_neurons for above in self.layers[: self.layers.index(layer)])
        n_instances, resources = self.measurement.tokens.n_instances, self.measurement.request.resources
        # One block is read while another is measured.
        size = min(512, max(1, resources.memory_bytes // 8 // (4 * n_instances)))
        with ThreadPoolExecutor(1, thread_name_prefix="blocks") as thread:

            def read(start: int) -> Future[NDArray[np.float32]]:
                into = self._used.pop() if self._used else None
                stop = min(start + size, layer.n_neurons)
                return thread.submit(self._buffers[0].block, first + start, first + stop, into=into)

            following = read(0)
            for start in range(0, layer.n_neurons, size):
                block = following.result()
                if start + size < layer.n_neurons:
                    following = read(start + size)
                yield start, block
                self._used.append(block)

    def shares(self, layer: Layer) -> NDArray[np.float32] | None:
        """Return which share of each instance's tokens each expert got [experts, instances]; None in a dense layer."""
        if not layer.n_native_experts:
            return None
        first = sum(above.n_native_experts for above in self.layers[: self.layers.index(layer)])
        return self._buffers[1].block(first, first + layer.n_native_experts)

    def remove(self) -> None:
        """Remove the activations; the pass is done with."""
        self._used.clear()
        for file in self.folder.iterdir():
            file.unlink()

    def _pooled(
        self, reading: Capture, batches: Sequence[Batch], progress: Progress
    ) -> Iterator[tuple[int, list[list[torch.Tensor]]]]:
        """Run batches; yield the place of the first instance of each, and the tensors for each buffer."""
        for batch in batches:
            run_batch(self.measurement, reading, batch)
            yield batch.first, [reading.pooled(), reading.routed()][: len(self._buffers)]
            progress.advance(batch.n_tokens)

    def _flush(self) -> None:
        for buffer in self._buffers:
            buffer.flush()

    def _missing(self) -> list[Batch]:
        n_done = min(buffer.n_instances for buffer in self._buffers)
        return [batch for batch in self._batches if batch.last > n_done]


def kept_layers(
    measurement: Measurement, missing: Collection[Layer], folder: Path, progress: Progress
) -> tuple[Layer, ...]:
    """Return the layers of the pass that an earlier attempt left in a folder; empty that if it is of no use."""
    try:
        kept = dict(json.loads((folder / "pass.json").read_text()))
    except (FileNotFoundError, TypeError, ValueError):
        kept = {}
    wanted = _definition(measurement)
    changes = [f"{name} {kept.get(name)}, not {value}" for name, value in wanted.items() if kept.get(name) != value]
    layers = tuple(layer for layer in measurement.layers if [layer.stack, layer.layer] in kept.get("layers", ()))
    if not changes and not set(layers).isdisjoint(missing):
        return layers
    if kept:
        reason = changes[0] if changes else "other layers"
        progress.note(f"the forward pass starts over: an earlier attempt was of {reason}")
    with store_errors(f"cannot write {folder}"):
        for file in folder.iterdir():
            file.unlink()
    return ()


def _definition(measurement: Measurement) -> dict[str, Any]:
    """Return what must be the same for a pass to be continued."""
    return {
        "run": measurement.run_id,
        "batch tokens": measurement.batch_tokens,
        "batches": len(list(measurement.batches())),  # memory limits them too
        "device": device_name(measurement.model.module),
        "torch": str(torch.__version__),
        "transformers": transformers_version(),
        "neuronlake": neuronlake_version(),
    }


def _reader(measurement: Measurement, layers: Sequence[Layer]) -> AbstractContextManager[Capture]:
    settings = measurement.settings
    return capture(
        measurement.model.module,
        layers,
        site=settings.site,
        pooling=settings.pooling,
        router=settings.router,
        ends_early=settings.layers is not None or len(layers) < len(measurement.layers),
    )


def run_batch(measurement: Measurement, reading: Capture, batch: Batch) -> None:
    """Run one batch and pool what is read of it."""
    inputs, spans = collate(measurement.model, measurement.tokens, measurement.targets, batch)
    with reading.batch(spans):
        measurement.model.module(**inputs)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a few batches took, and what was read of a layer in them."""

    cpu_s: float  # of the whole pass, extrapolated
    wall_s: float
    instances: NDArray[np.int64]  # those of the batches, in the order they are run
    pooled: NDArray[np.float32]  # [instances of the batches, neurons of the layer]
    routed: NDArray[np.float32] | None  # [instances of the batches, experts of the layer], None in a dense layer


def sample_pass(measurement: Measurement, layer: Layer) -> Sample:
    """Run a few batches of different lengths; what they took is extrapolated by their tokens, padding included."""
    batches = list(measurement.batches())
    chosen = np.unique(np.linspace(0, len(batches) - 1, _SAMPLED).round()).astype(int)
    length = np.diff(measurement.tokens.token_start)
    area = np.array([len(batch.texts) * length[batch.texts].max() for batch in batches], dtype=np.float64)
    index = measurement.layers.index(layer)
    costs, pooled, routed = [], [], []
    with torch.inference_mode(), _reader(measurement, measurement.layers) as reading:
        run_batch(measurement, reading, batches[chosen[-1]])  # the first pass warms up
        for place in chosen:
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            run_batch(measurement, reading, batches[place])
            pooled.append(reading.pooled()[index].float().cpu().numpy())
            if layer.n_native_experts:
                before = sum(above.n_native_experts > 0 for above in measurement.layers[:index])
                routed.append(reading.routed()[before].float().cpu().numpy())
            costs.append([time.process_time() - cpu_s, time.perf_counter() - wall_s])
    a_token = np.array(costs).T / area[chosen]
    cpu_s, wall_s = (float(np.interp(np.arange(len(batches)), chosen, of) @ area) for of in a_token)
    instances = np.concatenate([np.arange(batches[place].first, batches[place].last) for place in chosen])
    return Sample(cpu_s, wall_s, instances, np.concatenate(pooled), np.concatenate(routed) if routed else None)
