"""Tiny random models that tests ablate, and what they ask of one."""

import polars as pl
import torch
import transformers
from torch import Tensor, nn

CONSTANTS = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZE = {**CONSTANTS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
T5 = {**CONSTANTS, "d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
MIXTURE = {**SIZE, "num_key_value_heads": 2, "num_experts": 4, "num_experts_per_tok": 2}
KINDS = {
    "bert": (transformers.BertForMaskedLM, transformers.BertConfig(**SIZE, intermediate_size=48)),
    "bert-classifier": (
        transformers.BertForSequenceClassification, transformers.BertConfig(**SIZE, intermediate_size=48)
    ),
    "bert-body": (transformers.BertModel, transformers.BertConfig(**SIZE, intermediate_size=48)),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**SIZE, intermediate_size=48)),
    "gpt2": (
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config(**CONSTANTS, n_embd=32, n_inner=48, n_layer=2, n_head=4, n_positions=32),
    ),
    "t5": (transformers.T5ForConditionalGeneration, transformers.T5Config(**T5)),
    "olmoe": (transformers.OlmoeForCausalLM, transformers.OlmoeConfig(**MIXTURE, intermediate_size=24)),
    "qwen2-moe": (
        transformers.Qwen2MoeForCausalLM,
        transformers.Qwen2MoeConfig(
            **MIXTURE, intermediate_size=48, moe_intermediate_size=24, shared_expert_intermediate_size=40
        ),
    ),
    "switch": (
        transformers.SwitchTransformersForConditionalGeneration,
        transformers.SwitchTransformersConfig(
            **T5, num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, num_experts=4
        ),
    ),
    "big-bird": (
        transformers.BigBirdForMaskedLM,
        transformers.BigBirdConfig(**SIZE, intermediate_size=48, attention_type="block_sparse"),
    ),
}  # fmt: skip
SEQ2SEQ = ("t5", "switch")
THREE = [("encoder", 1, 3), ("encoder", 1, 7), ("encoder", 1, 20)]


def run(model: nn.Module) -> Tensor:
    """Return what a model yields first: logits, or the states of a body."""
    ids = torch.arange(24).reshape(2, 12) * 7 % 41 + 4
    more = {"decoder_input_ids": ids[:, :5] + 1} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **more)[0]


def assert_clean(model: nn.Module) -> None:
    for each in model.modules():
        assert not each._forward_pre_hooks
        assert not each._forward_hooks
        assert "_apply_gate" not in vars(each)


def levels(column: str, values: list[float]) -> pl.DataFrame:
    """Return neurons 3, 7 and 20 of BERT's second layer with a column of numbers."""
    return pl.DataFrame({"stack": ["encoder"] * 3, "layer": [1] * 3, "neuron": [3, 7, 20], column: values})
