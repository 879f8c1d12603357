"""What a model does with a text is tried, not read from its configuration."""

import numpy as np
import pytest
import transformers
from transformers import AutoModel

from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Resources
from neuronlake.ingest.models.behaviour import is_causal, sees_padding

SIZE = {
    "vocab_size": 340, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "initializer_range": 0.2, "pad_token_id": 0,
}  # fmt: skip
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SIZE),
    "llama": lambda: transformers.LlamaConfig(**SIZE),
    "mixtral": lambda: transformers.MixtralConfig(**SIZE, num_key_value_heads=2, num_local_experts=4),
    "fnet": lambda: transformers.FNetConfig(**SIZE),
    "convbert": lambda: transformers.ConvBertConfig(**SIZE, embedding_size=32),
}


@pytest.fixture(scope="module")
def body():
    return lambda kind: AutoModel.from_config(CONFIGS[kind]()).eval()


@pytest.mark.parametrize(
    ("kind", "expected"), [("bert", False), ("llama", True), ("mixtral", True), ("convbert", False)]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_causal_if_what_follows_changes_nothing(body, kind, expected, dtype):
    import torch

    model = body(kind).to(getattr(torch, dtype))
    assert is_causal(model, kind) is expected


def test_experts_run_as_before_after_the_trial(body):
    model = body("mixtral")
    before = model.get_experts_implementation()
    is_causal(model, "mixtral")
    assert model.get_experts_implementation() == before


@pytest.mark.parametrize(
    ("kind", "expected"), [("bert", False), ("llama", False), ("mixtral", False), ("fnet", True), ("convbert", True)]
)
def test_some_models_see_padding_though_it_is_masked(body, kind, expected):
    assert sees_padding(body(kind), kind) is expected


@pytest.mark.parametrize("kind", ["fnet", "convbert"])
def test_texts_of_a_model_that_sees_padding_are_run_unpadded(
    body, kind, filled, store, tmp_path, tiny_model, read_rows
):
    import shutil

    folder = tmp_path / kind
    shutil.copytree(tiny_model("llama"), folder)
    body(kind).save_pretrained(folder)
    means = []
    for batch_tokens in (1, 4096):
        ingest_model(
            str(folder), corpus="test", store=filled.path, name=f"{kind}-{batch_tokens}",
            resources=Resources(batch_tokens=batch_tokens),
        )  # fmt: skip
        rows = [row for row in read_rows(filled, "neurons") if row["model"] == f"{kind}-{batch_tokens}"]
        means.append([row["mean"] for row in rows])
    np.testing.assert_allclose(means[1], means[0], rtol=1e-4, atol=1e-5)
