"""Batches reach the buffers in order, and what goes wrong there is raised."""

import threading
import time
from pathlib import Path

import pytest
import torch

from neuronlake.errors import IngestError, StoreError
from neuronlake.ingest.activations.buffer import Buffer, fill


def buffer(folder: Path, n_neurons: int, n_instances: int, **more: object) -> Buffer:
    how = {"storage": "float32", "memory_bytes": 1 << 20} | more
    return Buffer(folder / f"{n_neurons}.bin", n_neurons, n_instances, **how)


class Recorder:
    """Stands for a buffer: records what comes, slowly, and fails on one value."""

    def __init__(self, *, fails_on: int | None = None) -> None:
        self.seen: list[float] = []
        self.threads: set[int] = set()
        self._fails_on = fails_on

    def append(self, pooled: list[torch.Tensor], *, first: int) -> None:
        value = float(pooled[0][0, 0])
        time.sleep(0.002)
        self.threads.add(threading.get_ident())
        if value == self._fails_on:
            raise StoreError(f"no room for {value:.0f}")
        self.seen.append(value)


def batch(value: float) -> list[torch.Tensor]:
    return [torch.full((1, 1), value)]


def batches(values: range, taken: list[float], *, error: Exception | None = None):
    """Yield one batch a value; note which were taken; end with an error of one's own."""
    for value in values:
        yield value, [batch(value)]
        taken.append(value)
    if error is not None:
        time.sleep(0.02)  # what the other thread does has gone wrong by now
        raise error


def test_batches_are_appended_in_the_order_they_come(tmp_path):
    target = buffer(tmp_path, 3, 40, memory_bytes=7 * 3 * 4)
    whole = torch.arange(120.0).reshape(40, 3)
    sizes = [1, 12, 3, 9, 1, 1, 13]
    firsts = [sum(sizes[:index]) for index in range(len(sizes))]
    parts = zip(firsts, whole.split(sizes), strict=True)
    fill([target], ((first, [[part[:, :1], part[:, 1:]]]) for first, part in parts))
    target.flush()
    assert torch.equal(torch.from_numpy(target.block(0, 3)), whole.T)


def test_batches_are_appended_on_one_other_thread():
    target = Recorder()
    fill([target], batches(range(20), []))
    assert target.seen == list(range(20))
    assert len(target.threads) == 1
    assert threading.get_ident() not in target.threads


def test_filling_waits_for_what_is_under_way():
    target = Recorder()
    fill([target], batches(range(1, 3), []))
    assert target.seen == [1, 2]


def test_at_most_two_batches_wait():
    gate, target = threading.Event(), Recorder()
    started = []

    class Waiting(Recorder):
        def append(self, pooled, *, first):
            gate.wait(5)
            target.append(pooled, first=first)

    filling = threading.Thread(target=fill, args=([Waiting()], batches(range(4), started)))
    filling.start()
    time.sleep(0.05)
    assert started == [0, 1]
    gate.set()
    filling.join()
    assert target.seen == [0, 1, 2, 3]


def test_two_buffers_are_filled_side_by_side(tmp_path):
    activations, routing = buffer(tmp_path, 3, 4), buffer(tmp_path, 2, 4)
    values, shares = torch.arange(12.0).reshape(4, 3), torch.arange(8.0).reshape(4, 2)
    parts = ((start, [[values[start : start + 2]], [shares[start : start + 2]]]) for start in (0, 2))
    fill([activations, routing], parts)
    assert torch.equal(torch.from_numpy(activations.block(0, 3)), values.T)
    assert torch.equal(torch.from_numpy(routing.block(0, 2)), shares.T)


@pytest.mark.parametrize("n_buffers", [1, 2])
def test_a_batch_for_another_number_of_buffers_is_an_error(n_buffers):
    parts = [batch(1)] * (3 - n_buffers)
    with pytest.raises(ValueError, match="zip"):
        fill([Recorder() for _ in range(n_buffers)], [(0, parts)])


def test_an_error_of_the_buffer_is_raised_by_a_later_batch():
    taken = []
    with pytest.raises(StoreError, match="no room for 0"):
        fill([Recorder(fails_on=0)], batches(range(100), taken))
    assert taken == [0, 1]


def test_an_error_of_the_buffer_is_raised_at_the_end():
    taken = []
    with pytest.raises(StoreError, match="no room for 1"):
        fill([Recorder(fails_on=1)], batches(range(2), taken))
    assert taken == [0, 1]


def test_an_error_of_the_buffer_does_not_mask_that_of_the_batches():
    with pytest.raises(KeyError, match="the body"):
        fill([Recorder(fails_on=0)], batches(range(1), [], error=KeyError("the body")))


def test_the_thread_ends_with_the_filling():
    before = threading.active_count()
    with pytest.raises(KeyError):
        fill([Recorder()], batches(range(2), [], error=KeyError()))
    fill([Recorder()], batches(range(2), []))
    assert threading.active_count() == before


def test_tensors_made_in_inference_mode_are_appended(tmp_path):
    target = buffer(tmp_path, 2, 3)
    with torch.inference_mode():
        fill([target], [(0, [[torch.ones(2, 2) * 2]]), (2, [[torch.ones(1, 2) * 3]])])
    assert target.block(0, 2).tolist() == [[2, 2, 3], [2, 2, 3]]


def test_a_value_beyond_the_storage_type_is_an_error_of_the_filling(tmp_path):
    target = buffer(tmp_path, 1, 1, storage="float16")
    with pytest.raises(IngestError, match="beyond the range of float16"):
        fill([target], [(0, [[torch.full((1, 1), 1e6)]])])


def test_half_precision_values_are_appended_as_they_are(tmp_path):
    target = buffer(tmp_path, 2, 1)
    fill([target], [(0, [[torch.tensor([[0.1, -3.0]], dtype=torch.bfloat16)]])])
    assert target.block(0, 2).ravel().tolist() == torch.tensor([0.1, -3.0], dtype=torch.bfloat16).tolist()
