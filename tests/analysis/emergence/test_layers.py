"""A study is of the layers that the series measured, whatever its partitions cover."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from neuronlake.errors import AnalysisError
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

STEPS = (0, 10, 20)


@pytest.fixture(scope="module")
def encoder_decoder(tiny_model, measured, tmp_path_factory):
    """Return checkpoints of tiny T5, and a store with runs of its encoder alone; not to be written to."""
    folder = tmp_path_factory.mktemp("encoder-decoder")
    store = Store(shutil.copytree(measured("bert"), folder / "store"))
    for step in STEPS:
        checkpoint = shutil.copytree(tiny_model("t5"), folder / "growing" / f"step{step}")
        weights = load_file(checkpoint / "model.safetensors")
        grown = {name: each * (1 + step / 10) for name, each in weights.items()}
        save_file(grown, checkpoint / "model.safetensors", {"format": "pt"})
        ingest_model(str(folder / "growing"), revision=f"step{step}", corpus="test", store=store.path)
    return folder / "growing", store


def test_a_decoder_that_was_not_measured_is_partitioned_but_not_studied(encoder_decoder, study, tmp_path):
    checkpoints, made = encoder_decoder
    store = Store(shutil.copytree(made.path, tmp_path / "own-store"))
    report = study(store, checkpoints)
    assert (report.n_experts, report.n_partitions) == (4, len(STEPS) * 3 - 1 + 2)
    with Database(store) as database:
        partitioned = "select distinct stack, method from partition_layers join partitions using (partition_id)"
        assert database.sql(f"{partitioned} order by all").rows() == [
            ("decoder", "kmeans"), ("encoder", "kmeans"), ("encoder", "matched"), ("encoder", "random")
        ]  # fmt: skip
        changes = "select distinct role, stack, layer from partition_changes where step = 20 and seed = 0"
        assert database.sql(f"{changes} order by all").rows() == [
            (role, "encoder", layer) for role in ("cold", "warm") for layer in (0, 1)
        ]
        assert database.sql("select distinct stack from partition_changes").rows() == [("encoder",)]


def test_a_layer_that_was_not_measured_is_refused_before_anything_is_made(encoder_decoder, study):
    checkpoints, store = encoder_decoder
    with pytest.raises(AnalysisError, match=r"no layer 2, 5 in run [0-9a-f]{16} of growing step20; it measured 0, 1"):
        study(store, checkpoints, layers=(1, 2, 5))
    assert not store.files("emergence_studies")
