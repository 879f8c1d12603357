"""A series of checkpoints, measured; shared by the tests of series."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from neuronlake.ingest.jobs import measurement
from neuronlake.ingest.jobs.job import ingest_series


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """Return a folder of three checkpoints with weights of their own."""
    folder = tmp_path_factory.mktemp("series") / "trained"
    for step in (0, 10, 2000):
        copied = shutil.copytree(tiny_model("bert"), folder / f"step{step}")
        tensors = load_file(copied / "model.safetensors")
        changed = {name: values * (1 + step / 10_000) for name, values in tensors.items()}
        save_file(changed, copied / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def series(trained, tmp_path):
    """Return the folder of checkpoints, to be altered; times of change are kept."""
    return shutil.copytree(trained, tmp_path / "trained")


@pytest.fixture
def ingest_all(filled, series):
    """Return a function that measures the series, or what of it is asked for."""

    def run(**arguments):
        arguments.setdefault("revisions", "step*")
        return ingest_series(str(series), store=filled.path, **({"corpus": "test"} | arguments))

    return run


@pytest.fixture
def loads(monkeypatch):
    """Return the list of revisions that are loaded from now on."""
    loaded, load = [], measurement.load

    def spy(checkpoint, **arguments):
        loaded.append(checkpoint.revision)
        return load(checkpoint, **arguments)

    monkeypatch.setattr(measurement, "load", spy)
    return loaded
