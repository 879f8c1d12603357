"""What a model's tokens are embedded and unembedded by: the vectors that neurons' weights are multiplied with."""

import re
from dataclasses import dataclass

import torch
from torch import nn

from ...errors import IngestError
from ..neurons.feed_forwards import Layer
from ..neurons.weights import plain
from .heads import head_class
from .model import Model
from .tokenizers import embedding_layer


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """One vector a token of the vocabulary."""

    name: str  # how a note names them
    weight: torch.Tensor  # [tokens, features]
    norm: nn.Module | None = None  # the norm between what neurons write and these vectors

    def through_norm(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return vectors [neurons, features] as the norm passes them on, but for its division by the state's size.

        The gain is what the norm makes of ones and minus ones, which it need not scale; so an offset falls out, and a
        gain that is kept as its distance from 1 counts whole.
        """
        if self.norm is None:
            return vectors
        parameter = next(self.norm.parameters(), self.weight)
        ones = torch.ones(1, 1, vectors.shape[1], dtype=parameter.dtype, device=parameter.device)
        ones[..., 1::2] = -1
        with torch.inference_mode():
            gain = ((self.norm(ones) - self.norm(-ones)) / 2 * ones).float().cpu()[0, 0]
            is_centring = torch.allclose(self.norm(ones + 1), self.norm(ones), atol=1e-2)
            passed: torch.Tensor = (vectors - vectors.mean(1, keepdim=True) if is_centring else vectors) * gain
        return passed


def embeddings(model: Model) -> TokenVectors:
    """Return the vectors that tokens enter a model as; raise `IngestError` if their numbers cannot be read."""
    layer = embedding_layer(model.module)
    return TokenVectors(_name(layer, model.module), _weight(layer, model))


def unembedding(model: Model, layers: tuple[Layer, ...]) -> TokenVectors | str:
    """Return the vectors by which the states of some layers, of one stack, become logits; or why there are none.

    Without a head in the checkpoint they are the embeddings, if the class of its head ties them.
    """
    if layers[0].stack == "encoder" and model.config.is_encoder_decoder:
        return "its encoder predicts no tokens"
    norm = _final_norm(model.module, layers)
    through = (
        "" if norm is None else f" through {_name(norm, model.module)} ({type(norm).__name__}, its gain folded in)"
    )
    if model.head is None:
        try:
            kind = head_class(model.config, model.name)
        except IngestError as error:
            return str(error)
        with torch.device("meta"):
            outline = kind(model.config)
        layer = outline.get_output_embeddings()  # type: ignore[no-untyped-call]
        if layer is None or layer.weight is not outline.get_input_embeddings().weight:
            return f"the checkpoint holds no head, and {kind.__name__} does not tie one to its embeddings"
        known = embeddings(model)
        return TokenVectors(f"{known.name}, to which {kind.__name__} ties its head{through}", known.weight, norm)
    layer = model.head.get_output_embeddings()  # type: ignore[no-untyped-call]
    if layer is None:
        return f"{type(model.head).__name__} has no unembedding"
    whole = model.head.base_model
    body = set((model.module if whole is model.head else whole).modules())
    between = [
        path
        for path, part in model.head.named_modules()
        if isinstance(part, nn.Linear) and part is not layer and part not in body
    ]
    skipped = f", without what {', '.join(between)} computes before it" if between else ""
    return TokenVectors(f"{_name(layer, model.head)}{through}{skipped}", _weight(layer, model), norm)


def _final_norm(module: nn.Module, layers: tuple[Layer, ...]) -> nn.Module | None:
    """Return the norm behind the last block, which stands beside the list of blocks; None where there is none."""
    match = re.match(r"(?:(.*?)\.)?\w+\.\d+\.", layers[0].feed_forwards[0].path)
    stack = module.get_submodule(match[1] or "") if match else module
    norms = [
        part
        for name, part in stack.named_children()
        if type(part).__name__.endswith("Norm") and (name == "embedding_norm" or "emb" not in name)
    ]
    return norms[-1] if norms else None


def _name(part: nn.Module, whole: nn.Module) -> str:
    return next((path for path, module in whole.named_modules() if module is part), type(part).__name__)


def _weight(layer: nn.Module, model: Model) -> torch.Tensor:
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.is_meta:
        raise IngestError(f"model {model.name}: the weights of its {type(layer).__name__} are not in memory to be read")
    weight = plain(weight)
    if not weight.is_floating_point() or weight.itemsize < 2:
        raise IngestError(
            f"model {model.name}: its {type(layer).__name__} is quantised ({weight.dtype}); its numbers cannot be read"
        )
    return weight
