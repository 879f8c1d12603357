"""Pooled activations on disk: the same bits come back, and what an attempt left is gone on with."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronlake.errors import IngestError, StoreError
from neuronlake.ingest.activations.buffer import Buffer

WIDTHS, N_NEURONS = (3, 2), 5


def instances(n):
    return torch.randn((n, N_NEURONS), generator=torch.Generator().manual_seed(0))


def open_buffer(folder, n_instances, *, n_neurons=N_NEURONS, storage="float32", memory_bytes=1 << 20):
    return Buffer(folder / "buffer.bin", n_neurons, n_instances, storage=storage, memory_bytes=memory_bytes)


def fill(folder, batches, **how):
    buffer, whole = open_buffer(folder, sum(batches), **how), instances(sum(batches))
    first = 0
    for size in batches:
        buffer.append(list(whole[first : first + size].split(WIDTHS, dim=1)), first=first)
        first += size
    buffer.flush()
    return buffer, whole.T.numpy()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.integers(1, 200),
    st.integers(0, 4),
    st.integers(1, 5),
    st.sampled_from(["float32", "float16"]),
    st.integers(0, 6),
)
def test_any_block_has_the_bits_that_were_appended(tmp_path, batches, memory_bytes, start, size, storage, n_used):
    (tmp_path / "buffer.bin").unlink(missing_ok=True)
    buffer, whole = fill(tmp_path, batches, memory_bytes=memory_bytes, storage=storage)
    used = np.full((n_used, sum(batches)), 7, np.float32)
    block = buffer.block(start, min(start + size, 5), into=used if n_used else None)
    assert block.flags.c_contiguous
    assert np.shares_memory(block, used) == (n_used >= len(block))
    expected = whole[start : start + size].astype(storage).astype(np.float32)
    assert block.tobytes() == np.ascontiguousarray(expected).tobytes()


def test_a_section_holds_a_hundredth_of_the_instances_or_what_fits_in_memory(tmp_path):
    buffer = open_buffer(tmp_path, 1000)
    buffer.append(list(instances(29).split(WIDTHS, dim=1)), first=0)
    assert open_buffer(tmp_path, 1000).n_instances == 20
    tight = open_buffer(tmp_path, 1000, memory_bytes=4 * 5 * 4)
    tight.append(list(instances(29).split(WIDTHS, dim=1)), first=0)
    assert open_buffer(tmp_path, 1000).n_instances == 28


@pytest.mark.parametrize("n_kept", [0, 1, 4, 7])
def test_another_attempt_goes_on_after_what_was_kept(tmp_path, n_kept):
    whole = instances(7)
    first = open_buffer(tmp_path, 7)
    first.append(list(whole[:n_kept].split(WIDTHS, dim=1)), first=0)
    again = open_buffer(tmp_path, 7)
    assert again.n_instances == n_kept
    again.append(list(whole[min(n_kept, 3) :].split(WIDTHS, dim=1)), first=min(n_kept, 3))  # some of it once more
    again.flush()
    assert again.block(0, 5).tobytes() == np.ascontiguousarray(whole.T.numpy()).tobytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept[:-1],
        lambda kept: kept[:-30],
        lambda kept: kept[:-5] + bytes([kept[-5] ^ 1]) + kept[-4:],
        lambda kept: kept[:-20] + bytes(20),
        lambda kept: kept[: len(kept) * 4 // 5] + bytes([255]) * 16,
    ],
)
def test_a_last_section_that_was_torn_or_lost_is_made_again(tmp_path, damage):
    _, whole = fill(tmp_path, [5])
    path = tmp_path / "buffer.bin"
    path.write_bytes(damage(path.read_bytes()))
    again = open_buffer(tmp_path, 5)
    assert again.n_instances == 4
    again.append(list(torch.from_numpy(whole.T).split(WIDTHS, dim=1)), first=0)
    assert again.block(0, 5).tobytes() == np.ascontiguousarray(whole).tobytes()


@pytest.mark.parametrize("value", [65505.0, -1e6, float("inf")])
def test_a_value_beyond_float16_is_refused_with_advice(tmp_path, value):
    buffer = open_buffer(tmp_path, 2, n_neurons=2, storage="float16")
    with pytest.raises(IngestError, match="is beyond the range of float16; store activations as float32"):
        buffer.append([torch.tensor([[0.0, value]])], first=0)


def test_the_largest_float16_fits(tmp_path):
    buffer = open_buffer(tmp_path, 1, n_neurons=1, storage="float16")
    buffer.append([torch.tensor([[-65504.0]])], first=0)
    assert buffer.block(0, 1).tolist() == [[-65504.0]]


def test_half_precision_activations_are_kept_exactly(tmp_path):
    buffer = open_buffer(tmp_path, 2, n_neurons=1)
    buffer.append([torch.tensor([[1.0078125], [-3.0]], dtype=torch.bfloat16)], first=0)
    assert buffer.block(0, 1).tolist() == [[1.0078125, -3.0]]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"cannot write .*absent/buffer\.bin: No such file"):
        open_buffer(tmp_path / "absent", 4)


def test_a_full_disk_is_one_line_and_leaves_what_was_kept(tmp_path, monkeypatch):
    buffer = open_buffer(tmp_path, 2)
    buffer.append(list(instances(1).split(WIDTHS, dim=1)), first=0)
    monkeypatch.setattr(buffer, "_path", type(tmp_path)("/dev/full"))
    with pytest.raises(StoreError, match="cannot write /dev/full: No space left on device"):
        buffer.append(list(instances(1).split(WIDTHS, dim=1)), first=1)
    assert open_buffer(tmp_path, 2).n_instances == 1


@pytest.mark.parametrize("size", [None, 30])
def test_a_file_that_was_lost_or_cut_meanwhile_is_named(tmp_path, size):
    buffer, _ = fill(tmp_path, [4, 3])
    path = tmp_path / "buffer.bin"
    if size is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(StoreError, match=r"cannot read .*buffer\.bin"):
        buffer.block(0, 5)
