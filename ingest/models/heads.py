"""Language-model heads: the class with which a checkpoint predicts tokens, and the body within it."""

from typing import cast

import torch
import transformers
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto as auto

from ...errors import IngestError
from ..neurons.feed_forwards import Stack

# How transformers' classes with a head over the vocabulary end; other mappings' classes end otherwise.
_HEADS = ("ForCausalLM", "ForMaskedLM", "ForConditionalGeneration", "ForSeq2SeqLM", "LMHeadModel")


def body_class(config: PreTrainedConfig) -> type:
    """Return what reads a checkpoint without a head: `AutoModel`, or the class of an encoder saved alone."""
    names = (name for name in config.architectures or () if name.endswith("EncoderModel"))
    return next((getattr(transformers, name) for name in names if hasattr(transformers, name)), AutoModel)


def head_class(config: PreTrainedConfig, label: str) -> type[PreTrainedModel]:
    """Return the class with a head that a configuration names, else that of its kind; `IngestError` if none has one."""
    names = [name for name in config.architectures or () if name.endswith(_HEADS) and hasattr(transformers, name)]
    if names:
        return cast("type[PreTrainedModel]", getattr(transformers, names[0]))
    mappings = [auto.MODEL_FOR_MASKED_LM_MAPPING, auto.MODEL_FOR_CAUSAL_LM_MAPPING]
    for mapping in [auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING] if config.is_encoder_decoder else mappings:
        if (kind := mapping.get(type(config), None)) is not None:
            return cast("type[PreTrainedModel]", kind)
    raise IngestError(
        f"model {label} cannot predict tokens: transformers has no language-model head for {type(config).__name__}"
    )


def body_of(head: PreTrainedModel) -> PreTrainedModel:
    """Return the body of a model with a head, made of the same modules, as it would have been loaded without one."""
    if head.base_model is not head:
        return cast("PreTrainedModel", head.base_model)
    # T5 and its kin hold their stacks beside their head, just as their class without a head holds them.
    with torch.device("meta"):
        body: PreTrainedModel = AutoModel.from_config(head.config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    for name, _ in list(body.named_children()):
        setattr(body, name, getattr(head, name))
    return body


def check_head(head: PreTrainedModel, stack: Stack, label: str) -> None:
    """Refuse a head that predicts the next token where its body sees that, or masked tokens where it sees one side."""
    config, kind = type(head.config), cast("object", type(head))
    masked = auto.MODEL_FOR_MASKED_LM_MAPPING.get(config, None)
    causal = auto.MODEL_FOR_CAUSAL_LM_MAPPING.get(config, None)
    if masked is causal:
        return
    problem = f"model {label} cannot predict tokens: its head {type(head).__name__} predicts"
    if stack == "encoder" and kind is causal:
        raise IngestError(f"{problem} the next token, but its body attends both ways")
    if stack == "decoder" and kind is masked:
        raise IngestError(f"{problem} masked tokens, but its body attends to the left alone")
