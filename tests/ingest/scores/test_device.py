"""The walk of a GPU against that of the CPU: the same scores, on the CPU."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from neuronlake.ingest.scores import device
from neuronlake.ingest.scores.device import DeviceWalk
from neuronlake.ingest.scores.scoring import score

from ...labels import label_index
from .test_scoring import problems

ON = torch.device("cpu")


def check(activations: np.ndarray, labels) -> None:
    expected, found = (
        score(activations, labels, n_top=3),
        score(activations, labels, n_top=3, walk=DeviceWalk(labels, ON)),
    )
    scale = float(np.abs(activations).max()) + 1e-30
    np.testing.assert_allclose(
        found.scores[..., [0, 1, 2, 5, 6, 7, 8]], expected.scores[..., [0, 1, 2, 5, 6, 7, 8]], atol=2e-7
    )
    np.testing.assert_allclose(found.scores[..., 3:5] / scale, expected.scores[..., 3:5] / scale, atol=2e-7)
    np.testing.assert_allclose(found.statistics / scale, expected.statistics / scale, atol=2e-7)
    np.testing.assert_allclose(found.p_value, expected.p_value, rtol=1e-6)
    assert np.array_equal(found.top_instance, expected.top_instance)
    assert np.array_equal(found.top_value, expected.top_value)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_scores_are_those_of_the_kernel(problem):
    activations, table, is_rest, half = problem
    check(activations, label_index(table, is_rest, half))


@pytest.mark.parametrize("together", [1, 1 << 20])
def test_many_instances_in_parts_of_any_size(monkeypatch, together):
    monkeypatch.setattr(device, "_TOGETHER", together)
    draw = np.random.default_rng(3)
    activations = draw.normal(size=(4, 2_000)).astype(np.float32)
    activations[1] = np.maximum(activations[1] - 0.5, 0)
    activations[2] = activations[2].astype(np.float16)
    activations[3] = np.where(draw.random(2_000) < 0.8, 0, activations[3])
    table = (draw.random((6, 2_000)) < np.geomspace(0.3, 0.001, 6)[:, None]).astype(int)
    table[:, 7] = 1
    table[3:][(draw.random((3, 2_000)) < 0.5) & (table[3:] == 0)] = -1
    check(activations, label_index(table, [True] * 3 + [False] * 3, draw.integers(0, 2, 2_000)))
