"""The forward passes of a measurement: texts in, pooled activations out."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch

from .capture import Capture, capture
from .collation import collate
from .drain import Drain
from .feed_forwards import Layer
from .measurement import Measurement
from .progress import Progress
from .spool import Spool

__all__ = ["estimate_seconds", "run_texts"]


def run_texts(
    work: Measurement, layers: Sequence[Layer], activations: Spool, routing: Spool | None, progress: Progress
) -> None:
    """Run every text once; spool its instances' pooled activations, and the shares of their tokens that experts get."""
    lengths = np.diff(work.tokens.token_start)
    progress.phase("forward", total=work.tokens.n_tokens, unit="tokens")
    spools = (activations,) if routing is None else (activations, routing)
    with torch.inference_mode(), _reader(work, layers) as reading, Drain(*spools) as drain:
        for batch in work.batches():
            inputs, spans = collate(work.model, work.tokens, work.targets, batch)
            with reading.batch(spans):
                work.model.module(**inputs)
            drain.put(reading.pooled(), *([] if routing is None else [reading.routed()]))
            progress.advance(int(lengths[batch.texts].sum()))


def _reader(work: Measurement, layers: Sequence[Layer]) -> AbstractContextManager[Capture]:
    settings = work.settings
    return capture(work.model.module, layers, site=settings.site, pooling=settings.pooling, router=settings.router)


def estimate_seconds(work: Measurement) -> float:
    """Time a few batches spread over the lengths and extrapolate to all tokens: seconds of wall time."""
    batches = list(work.batches())
    chosen = [batches[int(place)] for place in np.unique(np.linspace(0, len(batches) - 1, 3).round())]
    lengths = np.diff(work.tokens.token_start)
    n_tokens, seconds = 0, 0.0
    with torch.inference_mode(), _reader(work, work.layers) as reading:
        inputs, _ = collate(work.model, work.tokens, work.targets, chosen[-1])
        work.model.module(**inputs)  # the first pass warms up
        for batch in chosen:
            inputs, spans = collate(work.model, work.tokens, work.targets, batch)
            start = time.perf_counter()
            with reading.batch(spans):
                work.model.module(**inputs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds += time.perf_counter() - start
            n_tokens += int(lengths[batch.texts].sum())
    return seconds * work.tokens.n_tokens / n_tokens
