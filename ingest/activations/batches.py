"""Texts put together as a model reads them: padded batches."""

import inspect
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.model import Model, decoder_of
from ..models.tokenizers import padding_id
from ..neurons.feed_forwards import Stack
from .pooling import Spans
from .targets import TokenizedTargets
from .tokens import Batch, TokenizedCorpus

__all__ = ["collate", "padded"]


def collate(
    model: Model, tokens: TokenizedCorpus, targets: TokenizedTargets | None, batch: Batch
) -> tuple[dict[str, Any], dict[Stack, Spans]]:
    """Return a batch's model inputs, padded, and its instances' spans within them, by stack."""
    pad = padding_id(model.tokenizer, model.module)
    inputs, shape = padded(tokens.token_ids, tokens.token_start, batch.texts, pad)
    row_of_text = {text: row for row, text in enumerate(batch.texts.tolist())}
    instances = slice(batch.first, batch.last)
    text = tokens.text[instances]
    rows = np.array([row_of_text[each] for each in text.tolist()])
    start, stop = (each[instances].astype(np.int64) for each in (tokens.start, tokens.stop))
    spans: dict[Stack, Spans] = {model.parts[0].stack: Spans(rows, start, stop, shape)}
    if targets is not None:
        pad = padding_id(model.tokenizer, decoder_of(model))
        more, shape = padded(targets.token_ids, targets.token_start, batch.texts, pad)
        inputs |= {f"decoder_{name}": values for name, values in more.items()}
        spans["decoder"] = Spans(rows, targets.start[text], targets.stop[text], shape)
    accepted = inspect.signature(model.module.forward).parameters
    device = next(model.module.parameters()).device
    arguments: dict[str, Any] = {
        name: torch.from_numpy(values).to(device) for name, values in inputs.items() if name in accepted
    }
    if "use_cache" in accepted:
        arguments["use_cache"] = False
    return arguments, spans


def padded(
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
