"""A series of checkpoints in which neurons move between known clusters up to a known step, and then stay."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuronlake.analysis.emergence.settings import EmergenceSettings
from neuronlake.analysis.emergence.study import study_emergence
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.schema.store import Store

STEPS = (0, 1, 2, 4, 8)
# Of the 16 neurons of each cluster, so many are still in the cluster after it.
N_AWAY = (8, 4, 0, 0, 0)
N_CLUSTERS = 4


def planted(n_away: int) -> np.ndarray:
    """Return the cluster of each of 64 neurons. [neurons]."""
    neurons = np.arange(64)
    return (neurons // 16 + (neurons % 16 < n_away)) % N_CLUSTERS


@pytest.fixture(scope="session")
def checkpoints(tiny_model, tmp_path_factory) -> Path:
    """Return a folder of checkpoints of tiny BERT whose input weights lie around four centres; not to be written."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path_factory.mktemp("series") / "moving"
    base = tiny_model("bert")
    model, tokenizer = AutoModel.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    generator = np.random.default_rng(0)
    centres = np.linalg.qr(generator.normal(size=(32, N_CLUSTERS)))[0].T
    for step, n_away in zip(STEPS, N_AWAY, strict=True):
        for layer in model.encoder.layer:
            weights = centres[planted(n_away)] + generator.normal(0, 0.03, (64, 32))
            with torch.no_grad():
                layer.intermediate.dense.weight.copy_(torch.from_numpy(weights))
        model.save_pretrained(folder / f"step{step}")
        tokenizer.save_pretrained(folder / f"step{step}")
    return folder


@pytest.fixture(scope="session")
def measured_series(measured, checkpoints, tmp_path_factory) -> Path:
    """Return a store that holds a run of each checkpoint, and one of tiny BERT; not to be written."""
    folder = tmp_path_factory.mktemp("series") / "store"
    shutil.copytree(measured("bert"), folder)
    for step in STEPS:
        ingest_model(str(checkpoints), revision=f"step{step}", corpus="test", store=folder)
    return folder


@pytest.fixture(scope="session")
def studied(measured_series, checkpoints, tmp_path_factory) -> tuple[Store, str]:
    """Return a store that holds a study of the series as well, and the study's id; not to be written."""
    folder = tmp_path_factory.mktemp("studied") / "store"
    shutil.copytree(measured_series, folder)
    settings = EmergenceSettings(n_experts=N_CLUSTERS, n_random=2)
    return Store(folder), study_emergence(str(checkpoints), store=folder, settings=settings).emergence_id


@pytest.fixture
def series_store(measured_series, tmp_path) -> Store:
    """Return a store of the test's own that holds the series."""
    return Store(shutil.copytree(measured_series, tmp_path / "series-store"))


@pytest.fixture
def study(checkpoints) -> Callable[..., object]:
    """Return a function that studies the series, or another model, in a store."""

    def run(store, model=None, *, corpus=None, run=None, name=None, progress=None, engine=None, **settings):
        chosen = EmergenceSettings(**{"n_experts": N_CLUSTERS, "n_seeds": 2, "n_random": 1, "n_starts": 1, **settings})
        return study_emergence(
            str(model or checkpoints), store=store.path, settings=chosen, corpus=corpus, run=run, name=name,
            engine=engine, progress=progress,
        )  # fmt: skip

    return run
