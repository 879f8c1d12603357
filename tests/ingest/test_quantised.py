"""Checkpoints whose weights are quantised."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from neuronlake.errors import IngestError
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import load

pytest.importorskip("bitsandbytes", reason="the package bitsandbytes is not installed")

COLUMNS = ("mean", "input_norm", "output_norm")


@pytest.fixture(scope="module")
def plain(tiny_model, tmp_path_factory) -> Path:
    """Return a folder with a Llama whose rows are long enough for blocks of 64 weights."""
    from transformers import AutoModel, LlamaConfig

    config = LlamaConfig(
        vocab_size=340, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("plain") / "llama"
    shutil.copytree(tiny_model("llama"), folder)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        AutoModel.from_config(config).save_pretrained(folder)
    return folder


# How far norms may move: the rounding of the format.
@pytest.mark.parametrize(("bits", "error"), [(4, 0.1), (8, 0.01)])
def test_a_quantised_checkpoint_is_measured_as_it_computes(plain, tmp_path, filled, read_rows, bits, error):
    from transformers import AutoModel, BitsAndBytesConfig

    folder = tmp_path / "quantised"
    shutil.copytree(plain, folder)
    config = BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
    model = AutoModel.from_pretrained(plain, quantization_config=config, device_map={"": "cpu"}, dtype=torch.float32)
    model.save_pretrained(folder)
    for each in (plain, folder):
        ingest_model(str(each), corpus="test", store=filled.path, name=each.name)
    rows = read_rows(filled, "neurons")
    expected, found = (
        np.array([[row[column] for column in COLUMNS] for row in rows if row["model"] == name])
        for name in ("llama", "quantised")
    )
    assert found.shape == (2 * 128, len(COLUMNS))
    assert not np.array_equal(found, expected), "it is another model"
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], rtol=error)
    assert np.corrcoef(found[:, 0], expected[:, 0])[0, 1] > 0.9


def test_weights_that_are_not_quantised_as_the_configuration_says_are_refused(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "full")
    config = json.loads((folder / "config.json").read_text())
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (folder / "config.json").write_text(json.dumps(config | quantised))
    with pytest.raises(IngestError, match=r"says that its weights are quantised, but layers\.0\.\S+\.weight is not$"):
        load(Checkpoint(str(folder)))
