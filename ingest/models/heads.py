"""Heads of language models: which class a checkpoint is loaded as to predict tokens, and the body within it."""

from typing import cast

import torch
import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.auto_factory import _LazyAutoMapping

from ...errors import IngestError
from ..neurons.feed_forwards import Stack

__all__ = ["body_of", "check_head", "head_class"]

# How transformers' classes with a head over the vocabulary end; other mappings' classes end otherwise.
_HEADS = ("ForCausalLM", "ForMaskedLM", "ForConditionalGeneration", "ForSeq2SeqLM", "LMHeadModel")


def head_class(config: PreTrainedConfig, label: str) -> type[PreTrainedModel]:
    """Return the class of a checkpoint with its language-model head: the one it names, failing that its kind's.

    Parameters
    ----------
    config
        The checkpoint's configuration.
    label
        The model's name, for errors.

    Raises
    ------
    IngestError
        If transformers has none for its kind.
    """
    for name in config.architectures or ():
        if name.endswith(_HEADS) and hasattr(transformers, name):
            return cast("type[PreTrainedModel]", getattr(transformers, name))
    mappings = (
        (MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,)
        if config.is_encoder_decoder
        else (MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING)
    )
    for mapping in mappings:
        found = _mapped(mapping, config)
        if found is not None:
            return found
    raise IngestError(
        f"model {label} cannot predict tokens: transformers has no language-model head for {type(config).__name__}"
    )


def body_of(head: PreTrainedModel) -> PreTrainedModel:
    """Return the body of a model with a head as it would have been loaded without, made of the same modules."""
    if head.base_model is not head:
        return cast("PreTrainedModel", head.base_model)
    # T5 and its kin hold their stacks beside their head, just as their class without a head holds them.
    with torch.device("meta"):
        body: PreTrainedModel = AutoModel.from_config(head.config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    for name, _ in list(body.named_children()):
        setattr(body, name, getattr(head, name))
    return body


def check_head(head: PreTrainedModel, stack: Stack, label: str) -> None:
    """Refuse a head that predicts otherwise than its body attends.

    Raises
    ------
    IngestError
        If one predicts the next token and the other sees it, or one masked tokens and the other the left alone.
    """
    masked = _mapped(MODEL_FOR_MASKED_LM_MAPPING, head.config)
    causal = _mapped(MODEL_FOR_CAUSAL_LM_MAPPING, head.config)
    if masked is causal:
        return
    if stack == "encoder" and type(head) is causal:
        why = "predicts the next token, but its body attends both ways"
    elif stack == "decoder" and type(head) is masked:
        why = "predicts masked tokens, but its body attends to the left alone"
    else:
        return
    raise IngestError(f"model {label} cannot predict tokens: its head {type(head).__name__} {why}")


def _mapped(mapping: _LazyAutoMapping, config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    return cast("type[PreTrainedModel] | None", mapping.get(type(config), None))
