"""Batches of texts as a model reads them: padded inputs."""

import inspect
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.model import Model, decoder_of
from ..models.tokenizers import padding_id
from ..neurons.feed_forwards import Stack
from .pooling import Spans
from .tokens import Batch, TokenizedCorpus, TokenizedTargets


def collate(
    model: Model, tokens: TokenizedCorpus, targets: TokenizedTargets | None, batch: Batch
) -> tuple[dict[str, Any], dict[Stack, Spans]]:
    """Return the arguments of the model for a batch, and where its instances are within them, by stack."""
    inputs = _padded(tokens, batch.texts, padding_id(model.tokenizer, model.module))
    instances = slice(batch.first, batch.last)
    text = tokens.text[instances]
    rows = np.cumsum(np.diff(text, prepend=text[0]) != 0)  # instances lie in the order of their texts
    start, stop = tokens.start[instances].astype(np.int64), tokens.stop[instances].astype(np.int64)
    spans: dict[Stack, Spans] = {model.parts[0].stack: Spans(rows, start, stop, inputs["input_ids"].shape)}
    if targets is not None:
        decoder_inputs = _padded(targets, batch.texts, padding_id(model.tokenizer, decoder_of(model)))
        inputs |= {f"decoder_{name}": values for name, values in decoder_inputs.items()}
        spans["decoder"] = Spans(rows, targets.start[text], targets.stop[text], inputs["decoder_input_ids"].shape)
    accepted = inspect.signature(model.module.forward).parameters
    device = next(model.module.parameters()).device
    arguments: dict[str, Any] = {
        name: torch.from_numpy(values).to(device) for name, values in inputs.items() if name in accepted
    }
    if "use_cache" in accepted:
        arguments["use_cache"] = False
    return arguments, spans


def _padded(
    tokens: TokenizedCorpus | TokenizedTargets, texts: NDArray[np.int64], pad: int
) -> dict[str, np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
    """Return token ids and attention mask of some texts, padded on the right [texts, tokens]."""
    begin, end = tokens.token_start[texts], tokens.token_start[texts + 1]
    is_token = np.arange((end - begin).max()) < (end - begin)[:, None]
    input_ids = np.full((len(texts), is_token.shape[1]), pad, dtype=np.int64)
    pieces = zip(begin.tolist(), end.tolist(), strict=True)
    input_ids[is_token] = np.concatenate([tokens.token_ids[first:last] for first, last in pieces])
    return {"input_ids": input_ids, "attention_mask": is_token.astype(np.int64)}
