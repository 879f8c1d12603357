"""What a language model predicts, by its own head, at some places of a batch."""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from ...errors import AnalysisError
from ...ingest.models.model import Model
from ...ingest.neurons.weights import plain
from ...schema.vocabulary import ReadoutKind

__all__ = ["Objective", "head_of", "head_sha256", "objective", "predict"]

Objective = Literal["causal", "masked", "seq2seq"]
"""``causal``: the next token; ``masked``: tokens behind a mask; ``seq2seq``: the next token of a target."""

# Logits held at a time: 256 MB of float32.
_SLICE_LOGITS = 1 << 26


def head_of(model: Model, readout: ReadoutKind) -> PreTrainedModel:
    """Return the whole model with its head.

    Raises
    ------
    AnalysisError
        If it was loaded without.
    """
    if model.head is None:
        raise AnalysisError(f"readout {readout} needs a head, which model {model.name} was loaded without")
    return model.head


def head_sha256(head: PreTrainedModel) -> str:
    """Return the digest of the weights that only the head has: the digest of a model's weights is of its body."""
    inner = tuple(f"{name}." for name, part in head.named_children() if isinstance(part, PreTrainedModel))
    digest = hashlib.sha256()
    for name, weights in itertools.chain(head.named_parameters(), head.named_buffers()):
        if not name.startswith(inner):
            values = plain(weights).detach().cpu().contiguous()
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
            digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def objective(model: Model) -> Objective:
    """Return what the head of a model predicts, which follows from how its body attends."""
    if model.config.is_encoder_decoder:
        return "seq2seq"
    return "causal" if model.parts[0].stack == "decoder" else "masked"


def predict(
    head: PreTrainedModel,
    inputs: Mapping[str, Any],
    row: torch.Tensor,
    position: torch.Tensor,
    reduce: Callable[[slice, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Run a model once; return what is made of its logits at some places, of which not all are held at a time.

    The logits are the model's own: what it does to hidden states before and after its output embeddings is done, but
    only at these places. Everything before its head runs once, however many slices there are.

    Parameters
    ----------
    head
        The model with its head.
    inputs
        What it is called with.
    row, position
        Places: the text within the batch and the token within the text, of an encoder-decoder's target. [places] each
    reduce
        Given a slice of the places and their logits, float32 [slice, vocabulary], returns [slice, ...].

    Returns
    -------
    reduced
        [places, ...]

    Raises
    ------
    AnalysisError
        If its head is of a kind that cannot be run at some places alone.
    """
    output = head.get_output_embeddings()  # type: ignore[no-untyped-call]
    name = type(head).__name__
    if output is None:
        raise AnalysisError(f"{name} has no output embeddings to read predictions from")
    size = max(1, _SLICE_LOGITS // int(head.config.get_text_config().vocab_size))
    reduced: list[torch.Tensor] = []
    is_chosen = False
    places = slice(0)

    def choose(_: torch.nn.Module, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        nonlocal is_chosen
        (states,) = arguments
        is_chosen = states.ndim == 3
        return (states[row[places], position[places]][None] if is_chosen else states,)

    with output.register_forward_pre_hook(choose), _run_once(head):
        for begin in range(0, len(row), size):
            places = slice(begin, begin + size)
            logits = head(**inputs).logits
            if not is_chosen or logits.shape[:2] != (1, len(row[places])):
                raise AnalysisError(f"the head of {name} does not predict token by token, so it cannot be read")
            reduced.append(reduce(places, logits[0].float()))
    return torch.cat(reduced)


@contextlib.contextmanager
def _run_once(head: PreTrainedModel) -> Iterator[None]:
    """Keep what the models within a model return, its body or its stacks, and return it again when called again."""
    with contextlib.ExitStack() as undo:
        for part in head.children():
            if isinstance(part, PreTrainedModel):
                undo.enter_context(_kept(part))
        yield


@contextlib.contextmanager
def _kept(part: PreTrainedModel) -> Iterator[None]:
    own = vars(part).get("forward")  # accelerate has put one where it has placed the model
    forward = part.forward
    outputs: list[Any] = []

    def once(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever the model takes and returns
        if not outputs:
            outputs.append(forward(*arguments, **options))
        return outputs[0]

    part.forward = once
    try:
        yield
    finally:
        if own is None:
            del part.forward
        else:
            part.forward = own
