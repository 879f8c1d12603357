"""Pooled activations in memory and on disk."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronlake.errors import IngestError, StoreError
from neuronlake.ingest.spool import Spool


def fill(folder, batches, *, widths=(3, 2), storage="float32", memory_bytes=1 << 20):
    spool = Spool(sum(widths), sum(batches), storage=storage, memory_bytes=memory_bytes, folder=folder)
    draw = torch.Generator().manual_seed(0)
    whole = torch.randn((sum(batches), sum(widths)), generator=draw)
    first = 0
    for size in batches:
        spool.append(list(whole[first : first + size].split(widths, dim=1)))
        first += size
    return spool, whole.T.numpy()


@pytest.mark.parametrize("memory_bytes", [1, 20, 60, 100, 101, 140, 1 << 20])
def test_every_chunk_size_reads_back_the_same_bits(tmp_path, memory_bytes):
    spool, whole = fill(tmp_path, [3, 1, 3], memory_bytes=memory_bytes)
    block = spool.block(0, 5)
    assert block.dtype == np.float32
    assert block.flags.c_contiguous
    assert block.tobytes() == np.ascontiguousarray(whole).tobytes()
    assert spool.n_instances == 7


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.integers(1, 200),
    st.integers(0, 4),
    st.integers(1, 5),
    st.sampled_from(["float32", "float16"]),
)
def test_any_block_on_disk_is_the_block_in_memory(tmp_path, batches, memory_bytes, start, size, storage):
    some, _ = fill(tmp_path, batches, memory_bytes=memory_bytes, storage=storage)
    all_, _ = fill(tmp_path, batches, storage=storage)
    assert all_.disk_bytes == 0
    stop = min(start + size, 5)
    assert some.block(start, stop).tobytes() == all_.block(start, stop).tobytes()


def test_nothing_goes_to_disk_that_fits_in_memory(tmp_path):
    spool, _ = fill(tmp_path, [4, 3], memory_bytes=7 * 5 * 4)
    assert spool.disk_bytes == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_on_disk_is_counted(tmp_path):
    spool, _ = fill(tmp_path, [4, 3], memory_bytes=3 * 5 * 4)
    assert spool.disk_bytes == 2 * 3 * 5 * 4 == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_float16_rounds_to_the_nearest(tmp_path):
    spool, whole = fill(tmp_path, [5], storage="float16", memory_bytes=25)
    assert (spool.block(0, 5) == whole.astype(np.float16).astype(np.float32)).all()


@pytest.mark.parametrize("value", [65505.0, -1e6, float("inf")])
def test_a_value_beyond_float16_is_refused_with_advice(tmp_path, value):
    spool = Spool(2, 2, storage="float16", memory_bytes=100, folder=tmp_path)
    with pytest.raises(IngestError, match="is beyond the range of float16; store activations as float32"):
        spool.append([torch.tensor([[0.0, value]])])


def test_the_largest_float16_fits(tmp_path):
    spool = Spool(1, 1, storage="float16", memory_bytes=100, folder=tmp_path)
    spool.append([torch.tensor([[-65504.0]])])
    assert spool.block(0, 1).tolist() == [[-65504.0]]


def test_half_precision_activations_are_kept_exactly(tmp_path):
    spool = Spool(1, 2, storage="float32", memory_bytes=100, folder=tmp_path)
    spool.append([torch.tensor([[1.0078125], [-3.0]], dtype=torch.bfloat16)])
    assert spool.block(0, 1).tolist() == [[1.0078125, -3.0]]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"cannot write .*absent/activations-0\.bin: No such file"):
        fill(tmp_path / "absent", [4, 3], memory_bytes=1)


@pytest.mark.parametrize("size", [None, 3])
def test_a_chunk_that_was_lost_or_cut_is_named(tmp_path, size):
    spool, _ = fill(tmp_path, [4, 3], memory_bytes=3 * 5 * 4)
    path = tmp_path / "activations-1.bin"
    if size is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(StoreError, match=r"cannot read .*activations-1\.bin"):
        spool.block(0, 5)
