"""The forward passes of a measurement: texts in, pooled activations out."""

import inspect
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray

from .capture import Capture, capture
from .drain import Drain
from .layers import Layer, Stack
from .measurement import Measurement
from .models import counts_positions_from_padding
from .pooling import Spans
from .progress import Progress
from .spool import Spool
from .targets import TokenizedTargets
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
        for batch in work.tokens.batches(work.batch_tokens):
            inputs, spans = collate(work, batch)
            with reading.batch(spans):
                work.model.module(**inputs)
            drain.put(reading.pooled(), *([] if routing is None else [reading.routed()]))
            progress.advance(int(lengths[batch.texts].sum()))


def _reader(work: Measurement, layers: Sequence[Layer]) -> AbstractContextManager[Capture]:
    settings = work.settings
    return capture(work.model.module, layers, site=settings.site, pooling=settings.pooling, router=settings.router)


def collate(work: Measurement, batch: Batch) -> tuple[dict[str, torch.Tensor], dict[Stack, Spans]]:
    """Return a batch's model inputs, padded, and its instances' spans within them, by stack."""
    tokens = work.tokens
    begin, end = tokens.token_start[batch.texts], tokens.token_start[batch.texts + 1]
    longest = int((end - begin).max())
    pad = work.model.tokenizer.pad_token_id
    shape = (len(batch.texts), longest)
    input_ids = np.full(shape, 0 if pad is None else pad, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    shift = np.zeros(len(batch.texts), dtype=np.int64)
    for row, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        if work.resources.padding_side == "left":
            shift[row] = longest - (last - first)
        where = slice(int(shift[row]), int(shift[row]) + last - first)
        input_ids[row, where] = tokens.token_ids[first:last]
        attention_mask[row, where] = 1
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    accepted = inspect.signature(work.model.module.forward).parameters
    own_positions = counts_positions_from_padding(work.model.module)
    if work.resources.padding_side == "left" and "position_ids" in accepted and not own_positions:
        inputs["position_ids"] = np.maximum(np.arange(longest) - shift[:, None], 0)
    row_of_text = {text: row for row, text in enumerate(batch.texts.tolist())}
    instances = slice(batch.first, batch.last)
    rows = np.array([row_of_text[text] for text in tokens.text[instances].tolist()])
    first_stack = work.model.parts[0].stack
    spans: dict[Stack, Spans] = {
        first_stack: Spans(rows, tokens.start[instances] + shift[rows], tokens.stop[instances] + shift[rows], shape)
    }
    if work.targets is not None:
        more, spans["decoder"] = _collate_targets(work.targets, batch.texts, rows, tokens.text[instances], pad or 0)
        inputs |= {name: value for name, value in more.items() if name in accepted}
    device = next(work.model.module.parameters()).device
    arguments: dict[str, torch.Tensor] = {key: torch.from_numpy(value).to(device) for key, value in inputs.items()}
    if "use_cache" in accepted:
        arguments["use_cache"] = False  # type: ignore[assignment]
    return arguments, spans


def _collate_targets(
    targets: TokenizedTargets, texts: NDArray[np.int64], rows: NDArray[np.int64], text: NDArray[np.int64], pad: int
) -> tuple[dict[str, NDArray[np.int64]], Spans]:
    """Return the decoder's inputs, padded on the right, and the targets' spans within them, one an instance."""
    begin, end = targets.token_start[texts], targets.token_start[texts + 1]
    shape = (len(texts), int((end - begin).max()))
    input_ids = np.full(shape, pad, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    for row, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        input_ids[row, : last - first] = targets.token_ids[first:last]
        attention_mask[row, : last - first] = 1
    inputs = {"decoder_input_ids": input_ids, "decoder_attention_mask": attention_mask}
    return inputs, Spans(rows, targets.start[text], targets.stop[text], shape)


def estimate_seconds(work: Measurement) -> float:
    """Time a few batches spread over the lengths and extrapolate to all tokens: seconds of wall time."""
    batches = list(work.tokens.batches(work.batch_tokens))
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
