"""Batches reach the spools in order, and what goes wrong there is told."""

import threading
import time
from pathlib import Path

import pytest
import torch

from neuronlake.errors import IngestError, StoreError
from neuronlake.ingest.activations.buffer import Spool
from neuronlake.ingest.activations.drain import Drain


def spool(folder: Path, n_neurons: int, n_instances: int, **more: object) -> Spool:
    how = {"storage": "float32", "memory_bytes": 1 << 20} | more
    return Spool(folder / f"{n_neurons}.bin", n_neurons, n_instances, **how)


class Recorder:
    """Stands for a spool: notes what comes, slowly, and fails where it is told to."""

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


def drain_into(target: Recorder, values: range, reached: list[float], *, error: Exception | None = None) -> None:
    """Put one batch a value; note which were taken; end with an error of one's own."""
    with Drain(target) as drain:
        for value in values:
            drain.put(batch(value), first=value)
            reached.append(value)
        if error is not None:
            time.sleep(0.02)  # what the drain does has gone wrong by now
            raise error


def test_batches_are_spooled_in_the_order_they_are_put(tmp_path):
    target = spool(tmp_path, 3, 40, memory_bytes=7 * 3 * 4)
    whole = torch.arange(120.0).reshape(40, 3)
    with Drain(target) as drain:
        first = 0
        for part in whole.split([1, 12, 3, 9, 1, 1, 13]):
            drain.put([part[:, :1], part[:, 1:]], first=first)
            first += len(part)
    target.flush()
    assert torch.equal(torch.from_numpy(target.block(0, 3)), whole.T)


def test_batches_are_spooled_on_one_other_thread():
    target = Recorder()
    with Drain(target) as drain:
        for value in range(20):
            drain.put(batch(value), first=value)
    assert target.seen == list(range(20))
    assert len(target.threads) == 1
    assert threading.get_ident() not in target.threads


def test_leaving_waits_for_what_is_under_way():
    target = Recorder()
    with Drain(target) as drain:
        drain.put(batch(1), first=0)
        drain.put(batch(2), first=1)
    assert target.seen == [1, 2]


def test_at_most_two_batches_wait():
    gate, target = threading.Event(), Recorder()
    started = []

    class Held(Recorder):
        def append(self, pooled, *, first):
            gate.wait(5)
            target.append(pooled, first=first)

    def put(drain):
        for value in range(4):
            drain.put(batch(value), first=value)
            started.append(value)

    with Drain(Held()) as drain:
        putting = threading.Thread(target=put, args=(drain,))
        putting.start()
        time.sleep(0.05)
        assert started == [0, 1]
        gate.set()
        putting.join()
    assert target.seen == [0, 1, 2, 3]


def test_two_spools_are_filled_side_by_side(tmp_path):
    activations, routing = spool(tmp_path, 3, 4), spool(tmp_path, 2, 4)
    values, shares = torch.arange(12.0).reshape(4, 3), torch.arange(8.0).reshape(4, 2)
    with Drain(activations, routing) as drain:
        for start in (0, 2):
            drain.put([values[start : start + 2]], [shares[start : start + 2]], first=start)
    assert torch.equal(torch.from_numpy(activations.block(0, 3)), values.T)
    assert torch.equal(torch.from_numpy(routing.block(0, 2)), shares.T)


@pytest.mark.parametrize("n_spools", [1, 2])
def test_a_batch_for_another_number_of_spools_is_an_error(n_spools):
    parts = [batch(1)] * (3 - n_spools)
    with pytest.raises(ValueError, match="zip"), Drain(*(Recorder() for _ in range(n_spools))) as drain:
        drain.put(*parts, first=0)


def test_an_error_of_the_spool_is_raised_by_a_later_put():
    reached = []
    with pytest.raises(StoreError, match="no room for 0"):
        drain_into(Recorder(fails_on=0), range(100), reached)
    assert reached == [0, 1]


def test_an_error_of_the_spool_is_raised_on_leaving():
    reached = []
    with pytest.raises(StoreError, match="no room for 1"):
        drain_into(Recorder(fails_on=1), range(2), reached)
    assert reached == [0, 1]


def test_an_error_of_the_spool_does_not_mask_that_of_the_body():
    with pytest.raises(KeyError, match="the body"):
        drain_into(Recorder(fails_on=0), range(1), [], error=KeyError("the body"))


def test_the_thread_ends_with_the_drain():
    before = threading.active_count()
    with pytest.raises(KeyError):
        drain_into(Recorder(), range(2), [], error=KeyError())
    drain_into(Recorder(), range(2), [])
    assert threading.active_count() == before


def test_tensors_made_in_inference_mode_are_spooled(tmp_path):
    target = spool(tmp_path, 2, 3)
    with torch.inference_mode(), Drain(target) as drain:
        drain.put([torch.ones(2, 2) * 2], first=0)
        drain.put([torch.ones(1, 2) * 3], first=2)
    assert target.block(0, 2).tolist() == [[2, 2, 3], [2, 2, 3]]


def test_a_value_beyond_the_storage_type_is_an_error_of_the_drain(tmp_path):
    target = spool(tmp_path, 1, 1, storage="float16")
    with pytest.raises(IngestError, match="beyond the range of float16"), Drain(target) as drain:
        drain.put([torch.full((1, 1), 1e6)], first=0)


def test_half_precision_values_are_spooled_as_they_are(tmp_path):
    target = spool(tmp_path, 2, 1)
    with Drain(target) as drain:
        drain.put([torch.tensor([[0.1, -3.0]], dtype=torch.bfloat16)], first=0)
    assert target.block(0, 2).ravel().tolist() == torch.tensor([0.1, -3.0], dtype=torch.bfloat16).tolist()
