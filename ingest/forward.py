"""The forward passes of a measurement: texts in, pooled activations out."""

import inspect
import time
from collections.abc import Sequence

import numpy as np
import torch

from .capture import Spans, capture
from .measurement import Measurement
from .models import counts_positions_from_padding
from .progress import Progress
from .sites import Site
from .spool import Spool
from .tokens import Batch

__all__ = ["estimate_seconds", "run_texts"]


def run_texts(work: Measurement, sites: Sequence[Site], spool: Spool, progress: Progress) -> None:
    """Run every text once and spool the pooled activations of its instances."""
    lengths = np.diff(work.tokens.token_start)
    progress.phase("forward", total=work.tokens.n_tokens, unit="tokens")
    with torch.inference_mode(), capture(work.model.module, sites, pooling=work.settings.pooling) as reading:
        for batch in work.tokens.batches(work.batch_tokens):
            inputs, spans = collate(work, batch)
            n_texts, n_tokens = inputs["input_ids"].shape
            with reading.batch(spans, (n_texts, n_tokens)):
                work.model.module(**inputs)
            spool.append([pooled.cpu() for pooled in reading.pooled()])
            progress.advance(int(lengths[batch.texts].sum()))


def collate(work: Measurement, batch: Batch) -> tuple[dict[str, torch.Tensor], Spans]:
    """Return a batch's model inputs, padded, and its instances' spans within them."""
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
    spans = Spans(rows, tokens.start[instances] + shift[rows], tokens.stop[instances] + shift[rows])
    device = torch.device(work.resources.device)
    arguments: dict[str, torch.Tensor] = {key: torch.from_numpy(value).to(device) for key, value in inputs.items()}
    if "use_cache" in accepted:
        arguments["use_cache"] = False  # type: ignore[assignment]
    return arguments, spans


def estimate_seconds(work: Measurement) -> float:
    """Time a few batches spread over the lengths and extrapolate to all tokens: seconds of wall time."""
    batches = list(work.tokens.batches(work.batch_tokens))
    chosen = [batches[int(place)] for place in np.unique(np.linspace(0, len(batches) - 1, 3).round())]
    lengths = np.diff(work.tokens.token_start)
    n_tokens, seconds = 0, 0.0
    with torch.inference_mode():
        inputs, _ = collate(work, chosen[-1])
        work.model.module(**inputs)  # the first pass warms up
        for batch in chosen:
            inputs, _ = collate(work, batch)
            start = time.perf_counter()
            work.model.module(**inputs)
            if work.resources.device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds += time.perf_counter() - start
            n_tokens += int(lengths[batch.texts].sum())
    return seconds * work.tokens.n_tokens / n_tokens
