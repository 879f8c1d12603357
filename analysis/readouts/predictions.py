"""What a language model with its head predicts at chosen places of a batch, for `loss` and `choice`."""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ...errors import AnalysisError
from ...ingest.activations.tokens import TokenizedCorpus, TokenizedTargets, arrays_sha256
from ...ingest.models.model import Model
from ...ingest.neurons.experts import Forward, forward_replaced
from ...ingest.neurons.weights import plain
from ...schema.vocabulary import ReadoutKind
from .readout import Half, Texts

_SLICE_LOGITS = 1 << 26  # held at a time: 256 MB of float32


def with_head(texts: Texts, readout: ReadoutKind) -> tuple[Texts, PreTrainedModel]:
    """Return texts to run through the model with its head, and that model; it must be loaded with its head."""
    head = texts.model.head
    if head is None:
        raise AnalysisError(f"readout {readout} needs a head, which model {texts.model.name} was loaded without")
    return replace(texts, model=replace(texts.model, module=head)), head


def positives(half: Half) -> NDArray[np.int8]:
    """Return strata of the positives alone: 1 for a positive, -1 for any other instance. [functions, instances]."""
    return np.where(half.labels == 1, 1, -1).astype(np.int8)


def predictions_sha256(
    head: PreTrainedModel, tokens: TokenizedCorpus, targets: TokenizedTargets | None, *more: NDArray[Any]
) -> str:
    """Return the digest of the head's own weights, of the tokens it reads, and of `more` that decides the values."""
    # The digest of a model's weights is of its body; these are the weights that only the head has.
    inner = tuple(f"{name}." for name, part in head.named_children() if isinstance(part, PreTrainedModel))
    digest = hashlib.sha256()
    for name, weights in itertools.chain(head.named_parameters(), head.named_buffers()):
        if not name.startswith(inner):
            values = plain(weights).detach().cpu().contiguous()
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
            digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    read = f"{digest.hexdigest()} {tokens.sha256()} {'' if targets is None else targets.sha256()}"
    return arrays_sha256(np.frombuffer(read.encode(), np.uint8), *more)


def objective(model: Model) -> Literal["causal", "masked", "seq2seq"]:
    """Return what the head predicts, by how the body attends: the next token, tokens behind masks, or a target's."""
    if model.config.is_encoder_decoder:
        return "seq2seq"
    return "causal" if model.parts[0].stack == "decoder" else "masked"


def predict(
    head: PreTrainedModel,
    inputs: Mapping[str, Any],  # the arguments of its forward pass
    row: NDArray[np.int64],  # text within the batch [places]
    position: NDArray[np.int64],  # token within the text, or within the target of an encoder-decoder [places]
    token_id: NDArray[np.int64],  # token, or tokens, that the logits of a place are reduced to [places, ...]
    # Takes logits, float32 [slice, vocabulary], and the tokens of their places, and returns float32 [slice, ...]
    reduce: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> NDArray[np.float32]:  # [places, ...]
    """Run a model once, compute its logits at some places, a slice at a time, and return the results of `reduce`.

    The logits are the model's own: whatever it does to hidden states before and after its output embeddings is done,
    but at these places only. A head that cannot be run at some places alone is refused.
    """
    output = head.get_output_embeddings()  # type: ignore[no-untyped-call]
    name = type(head).__name__
    if output is None:
        raise AnalysisError(f"{name} has no output embeddings to read predictions from")
    device = next(head.parameters()).device
    rows, positions, tokens = (torch.from_numpy(values).to(device) for values in (row, position, token_id))
    size = max(1, _SLICE_LOGITS // int(head.config.get_text_config().vocab_size))
    reduced: list[torch.Tensor] = []
    is_chosen = False
    places = slice(0)

    def choose(_: torch.nn.Module, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        nonlocal is_chosen
        (states,) = arguments
        is_chosen = states.ndim == 3
        return (states[rows[places], positions[places]][None] if is_chosen else states,)

    with contextlib.ExitStack() as undo:
        # The body, or the stacks, are run for the first slice alone.
        for part in head.children():
            if isinstance(part, PreTrainedModel):
                undo.enter_context(forward_replaced(part, partial(_once, [])))
        undo.enter_context(output.register_forward_pre_hook(choose))
        for begin in range(0, len(row), size):
            places = slice(begin, begin + size)
            logits = head(**inputs).logits
            if not is_chosen or logits.shape[:2] != (1, len(row[places])):
                raise AnalysisError(f"the head of {name} does not predict token by token, so it cannot be read")
            reduced.append(reduce(logits[0].float(), tokens[places].to(logits.device)))
    return np.asarray(torch.cat(reduced).cpu().numpy())


def _once(outputs: list[object], forward: Forward, *arguments: object, **named: object) -> object:
    """Run a model within the model the first time, and return the same output whenever it is called again."""
    if not outputs:
        outputs.append(forward(*arguments, **named))
    return outputs[0]
