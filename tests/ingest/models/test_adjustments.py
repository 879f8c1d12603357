"""What is set in a model before it is read."""

import pytest
import torch
import transformers
from transformers import AutoModel

from neuronlake.ingest.models.behaviour import adjust

SIZE = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}


def moe(width: int, dtype: torch.dtype) -> transformers.PreTrainedModel:
    config = transformers.MixtralConfig(**SIZE, intermediate_size=width, num_local_experts=4, num_key_value_heads=2)
    return AutoModel.from_config(config, dtype=dtype).eval()


def test_nothing_is_set_where_nothing_must_be():
    model = moe(24, torch.float32)
    before = model.get_experts_implementation()
    assert list(adjust(model, "tiny")) == []
    assert model.get_experts_implementation() == before == {"": "grouped_mm"}


def test_a_model_that_runs_its_experts_eagerly_runs_them_together():
    model = moe(24, torch.float32)
    model.set_experts_implementation("eager")
    assert list(adjust(model, "tiny")) == ["tiny runs its experts by transformers' grouped_mm, not its default, eager"]
    assert model.get_experts_implementation() == {"": "grouped_mm"}


def test_rows_that_grouped_products_do_not_take_are_multiplied_one_by_one():
    model = moe(20, torch.bfloat16)  # rows of 40 bytes
    with pytest.raises(RuntimeError, match="16 bytes"):
        model(torch.arange(6)[None])
    assert list(adjust(model, "tiny")) == [
        "tiny runs its experts by transformers' batched_mm, not its default, grouped_mm"
    ]
    assert model(torch.arange(6)[None])[0].isfinite().all()


def test_big_bird_attends_in_full_however_short_its_first_text():
    config = transformers.BigBirdConfig(**SIZE, intermediate_size=40, block_size=4, attention_type="block_sparse")
    model = AutoModel.from_config(config).eval()
    assert list(adjust(model, "tiny")) == ["tiny attends to texts of any length in full, not by sparse blocks"]
    assert model.attention_type == "original_full"
