"""The same measurement on a GPU, and nothing in a batch that waits for it."""

import warnings

import numpy as np
import pytest
import torch

from neuronlake.ingest.activations.capture import capture
from neuronlake.ingest.activations.pooling import Spans
from neuronlake.ingest.activations.tokens import collate
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.stored import StoredCorpus
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.measurement import load_requested, prepare
from neuronlake.ingest.jobs.settings import Request, Resources
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.scores.device import DeviceWalk
from neuronlake.ingest.scores.scoring import score
from neuronlake.progress import SilentProgress

from ..labels import label_index

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pooling", ["max", "mean", "abs_max", "last"])
def test_spans_are_pooled_as_on_a_cpu(pooling, dtype):
    row, start, stop = np.array([[0, 0, 1, 1], [0, 12, 3, 2], [12, 20, 4, 19]])
    values = torch.randn((40, 64), generator=torch.Generator().manual_seed(0)).to(dtype)
    for some in (slice(None), slice(2)):  # spans that overlap, and none that do
        spans = Spans(row[some], start[some], stop[some], (2, 20))
        expected = spans.layout(20, values.device).pool(values, spans.n_instances, pooling)
        on_gpu = values.cuda()
        found = spans.layout(20, on_gpu.device).pool(on_gpu, spans.n_instances, pooling).cpu()
        torch.testing.assert_close(found, expected, rtol=1e-2 if pooling == "mean" else 0, atol=0)


def test_scores_are_those_of_the_cpu():
    draw = np.random.default_rng(3)
    activations = draw.normal(size=(8, 2_000)).astype(np.float32)
    activations[4:] = np.maximum(activations[4:] - 0.5, 0)
    table = (draw.random((6, 2_000)) < np.geomspace(0.3, 0.001, 6)[:, None]).astype(int)
    table[:, 7] = 1
    table[3:][(draw.random((3, 2_000)) < 0.5) & (table[3:] == 0)] = -1
    labels = label_index(table, [True] * 3 + [False] * 3, draw.integers(0, 2, 2_000))
    expected, found = (
        score(activations, labels),
        score(activations, labels, walk=DeviceWalk(labels, torch.device("cuda"))),
    )
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(found.p_value, expected.p_value, rtol=1e-6)
    assert np.array_equal(found.top_instance, expected.top_instance)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_batch_waits_for_the_gpu_no_more_often_than_the_model_does(store, make_corpus, tiny_model, words, kind):
    texts = [" ".join(words[shift:] + words[:shift]) for shift in range(len(words))]
    make_corpus(store, [Instance(text, {"task/odd": index % 2 == 1}) for index, text in enumerate(texts)])
    corpus, resources = StoredCorpus(store, "test"), Resources(device="cuda")
    request = Request(Checkpoint(str(tiny_model(kind))), corpus, resources=resources)
    measured = prepare(request, load_requested(request), SilentProgress())
    module, batch = measured.model.module, next(measured.batches())
    inputs, _ = collate(measured.model, measured.tokens, None, batch)

    def waits(run):
        run()  # what is made once, such as pinned memory
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return len(caught)

    with torch.inference_mode(), capture(module, measured.layers) as reading:

        def read():
            inputs, spans = collate(measured.model, measured.tokens, None, batch)
            with reading.batch(spans):
                module(**inputs)
            return reading.pooled()

        assert waits(read) <= waits(lambda: module(**inputs))
