"""What of a cluster a task of Ray's gets: never more than the node it runs on has, for which it would wait for ever."""

from types import SimpleNamespace

import pytest

from neuronlake.engines.ray import RayEngine


@pytest.mark.parametrize(
    ("nodes", "workers", "device", "cpus", "gpus"),
    [
        ([{"CPU": 8}], None, "cpu", 4, 0),
        ([{"CPU": 2}] * 4, None, "cpu", 2, 0),
        ([{"CPU": 2}] * 4, 8, "cpu", 1, 0),
        ([{"CPU": 16}, {"CPU": 4}], 1, "cpu", 16, 0),
        ([{"CPU": 64}, {"CPU": 64}, {"CPU": 8, "GPU": 1}], None, "auto", 8, 1),
        ([{"CPU": 64}, {"CPU": 8, "GPU": 2}], None, "cuda", 4, 1),
        ([{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 2}], None, "split", 8, 4),
    ],
)
def test_a_task_fits_on_a_node(nodes, workers, device, cpus, gpus):
    ray = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": each} for each in nodes])
    assert RayEngine(workers=workers)._shares(ray, device) == {"num_cpus": cpus, "num_gpus": gpus}
