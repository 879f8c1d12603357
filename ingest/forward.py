"""The forward passes of a measurement: texts in, pooled activations out."""

import inspect
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .capture import Capture, capture
from .drain import Drain
from .feed_forwards import Layer, Stack
from .measurement import Measurement
from .pooling import Spans
from .progress import Progress
from .spool import Spool
from .tokens import Batch

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
            inputs, spans = collate(work, batch)
            with reading.batch(spans):
                work.model.module(**inputs)
            drain.put(reading.pooled(), *([] if routing is None else [reading.routed()]))
            progress.advance(int(lengths[batch.texts].sum()))


def _reader(work: Measurement, layers: Sequence[Layer]) -> AbstractContextManager[Capture]:
    settings = work.settings
    return capture(work.model.module, layers, site=settings.site, pooling=settings.pooling, router=settings.router)


def collate(work: Measurement, batch: Batch) -> tuple[dict[str, Any], dict[Stack, Spans]]:
    """Return a batch's model inputs, padded, and its instances' spans within them, by stack."""
    tokens, pad = work.tokens, work.model.tokenizer.pad_token_id or 0
    inputs, shape = _padded(tokens.token_ids, tokens.token_start, batch.texts, pad)
    row_of_text = {text: row for row, text in enumerate(batch.texts.tolist())}
    instances = slice(batch.first, batch.last)
    text = tokens.text[instances]
    rows = np.array([row_of_text[each] for each in text.tolist()])
    start, stop = (each[instances].astype(np.int64) for each in (tokens.start, tokens.stop))
    spans: dict[Stack, Spans] = {work.model.parts[0].stack: Spans(rows, start, stop, shape)}
    if work.targets is not None:
        targets = work.targets
        more, shape = _padded(targets.token_ids, targets.token_start, batch.texts, pad)
        inputs |= {f"decoder_{name}": values for name, values in more.items()}
        spans["decoder"] = Spans(rows, targets.start[text], targets.stop[text], shape)
    accepted = inspect.signature(work.model.module.forward).parameters
    device = next(work.model.module.parameters()).device
    arguments: dict[str, Any] = {
        name: torch.from_numpy(values).to(device) for name, values in inputs.items() if name in accepted
    }
    if "use_cache" in accepted:
        arguments["use_cache"] = False
    return arguments, spans


def _padded(
    token_ids: NDArray[np.int32], token_start: NDArray[np.int64], texts: NDArray[np.int64], pad: int
) -> tuple[dict[str, NDArray[np.int64]], tuple[int, int]]:
    """Return some texts' tokens as a model reads them, filled up on the right, and their shape."""
    begin, end = token_start[texts], token_start[texts + 1]
    shape = (len(texts), int((end - begin).max()))
    input_ids = np.full(shape, pad, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    for row, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        input_ids[row, : last - first] = token_ids[first:last]
        attention_mask[row, : last - first] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}, shape


def estimate_seconds(work: Measurement) -> float:
    """Time a few batches spread over the lengths and extrapolate to all tokens: seconds of wall time."""
    batches = list(work.batches())
    chosen = [batches[int(place)] for place in np.unique(np.linspace(0, len(batches) - 1, 3).round())]
    lengths = np.diff(work.tokens.token_start)
    n_tokens, seconds = 0, 0.0
    with torch.inference_mode(), _reader(work, work.layers) as reading:
        inputs, _ = collate(work, chosen[-1])
        work.model.module(**inputs)  # the first pass warms up
        for batch in chosen:
            inputs, spans = collate(work, batch)
            start = time.perf_counter()
            with reading.batch(spans):
                work.model.module(**inputs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds += time.perf_counter() - start
            n_tokens += int(lengths[batch.texts].sum())
    return seconds * work.tokens.n_tokens / n_tokens
