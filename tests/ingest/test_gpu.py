"""The same measurement on a GPU."""

import numpy as np
import pytest
import torch

from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Resources

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("kind", ["bert", "llama", "t5", "olmoe", "switch"])
def test_a_gpu_measures_what_a_cpu_measures(store, make_corpus, tiny_model, read_rows, words, kind):
    texts = [" ".join(words[shift:] + words[:shift]) for shift in range(len(words))]
    make_corpus(store, [Instance(text, {"task/odd": index % 2 == 1}) for index, text in enumerate(texts)])
    # Devices do not enter a run's id, so the second measurement needs a name of its own.
    for device in ("cpu", "cuda"):
        resources = Resources(device=device)
        ingest_model(str(tiny_model(kind)), corpus="test", store=store.path, name=device, resources=resources)
    rows = read_rows(store, "neurons")
    cpu, cuda = ([row["mean"] for row in rows if row["model"] == device] for device in ("cpu", "cuda"))
    np.testing.assert_allclose(cuda, cpu, rtol=1e-3, atol=1e-4)
