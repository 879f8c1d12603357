"""Pooling equals its definition, instance by instance."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronlake.ingest.activations.pooling import ExpertPool, Segments, Spans

POOLINGS = ["max", "mean", "abs_max", "last"]
TYPES = [torch.float32, torch.float16, torch.bfloat16]
REDUCTIONS = {
    "max": lambda tokens: tokens.max(0).values,
    "mean": lambda tokens: tokens.float().mean(0).to(tokens.dtype),
    "abs_max": lambda tokens: tokens.abs().max(0).values,
    "last": lambda tokens: tokens[-1],
}
WIDTH, N_EXPERTS = 3, 4
# Sums of a mean are taken in another order; everything else is the same bits.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@st.composite
def spans_of_texts(draw) -> Spans:
    """Draw instances of a few texts: overlapping, nested, equal, of one token, longer than what is gathered."""
    n_texts, n_tokens = draw(st.integers(1, 3)), draw(st.integers(1, 14))
    instances = []
    for _ in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, n_tokens - 1))
        instances.append((draw(st.integers(0, n_texts - 1)), start, draw(st.integers(start + 1, n_tokens))))
    row, start, stop = np.array(instances, dtype=np.int64).T
    return Spans(row, start, stop, (n_texts, n_tokens))


def check(found: torch.Tensor, expected: torch.Tensor, pooling: str) -> None:
    assert found.dtype == expected.dtype
    if pooling == "mean":
        tolerance = TOLERANCE[found.dtype]
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    else:
        assert torch.equal(found, expected)


def random_values(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (values - seed % 3).to(dtype)  # at times nearly all of them negative


@settings(max_examples=60, deadline=None)
@given(
    spans_of_texts(), st.sampled_from(POOLINGS), st.sampled_from(TYPES), st.integers(0, 2**31 - 1), st.integers(0, 3)
)
def test_dense_values_are_pooled_instance_by_instance(spans, pooling, dtype, seed, n_more):
    n_texts, n_tokens = spans.shape
    values = random_values((n_texts, n_tokens + n_more, WIDTH), dtype, seed)  # a model may pad further by itself
    expected = [
        REDUCTIONS[pooling](values[row, start:stop])
        for row, start, stop in zip(spans.row, spans.start, spans.stop, strict=True)
    ]
    # As on a CPU, and as on a GPU.
    for layout in (spans.slices, spans.segments):
        of = layout(n_tokens + n_more, values.device)
        check(of.pool(values.reshape(-1, WIDTH), len(spans.row), pooling), torch.stack(expected), pooling)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_words_that_do_not_overlap_are_segments_of_the_tokens_themselves(pooling):
    spans = Spans(np.array([0, 0, 1, 1]), np.array([1, 2, 0, 3]), np.array([2, 4, 3, 4]), (2, 4))
    values = random_values((8, WIDTH), torch.float32, 3)
    segments = spans.segments(4, values.device)
    assert segments.copied is None
    slices = spans.slices(4, values.device)
    check(segments.pool(values, 4, pooling), slices.pool(values, 4, pooling), pooling)


def test_a_device_that_is_not_a_cpu_reduces_all_spans_in_one_operation():
    spans = one_text(12, (0, 12), (2, 12))
    values = torch.empty((12, WIDTH), device="meta")
    assert spans.layout(12, values.device).pool(values, 2, "max").shape == (2, WIDTH)
    assert isinstance(spans.layout(12, values.device), Segments)


@settings(max_examples=120, deadline=None)
@given(
    spans_of_texts(),
    st.sampled_from(POOLINGS),
    st.sampled_from(TYPES),
    st.integers(0, 2**31 - 1),
    st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    st.booleans(),
)
def test_rows_of_experts_are_pooled_as_if_unsent_tokens_were_zeros(spans, pooling, dtype, seed, share, by_expert):
    n_texts, n_tokens = spans.shape
    draw = torch.Generator().manual_seed(seed)
    everything = random_values((n_texts * n_tokens, N_EXPERTS, WIDTH), dtype, seed)
    is_sent = torch.rand((n_texts * n_tokens, N_EXPERTS), generator=draw) < share
    token, expert = torch.nonzero(is_sent).T
    order = torch.randperm(len(token), generator=draw)
    token, expert = token[order], expert[order]
    experts = ExpertPool(spans, N_EXPERTS, WIDTH, pooling)
    if by_expert:
        for each in range(N_EXPERTS):
            of = expert == each
            experts.add(everything[token[of], each], token[of], expert[of])
    else:
        experts.add(everything[token, expert], token, expert)

    kept = torch.where(is_sent[..., None], everything, 0).reshape(n_texts, n_tokens, N_EXPERTS * WIDTH)
    sent = is_sent.reshape(n_texts, n_tokens, N_EXPERTS)
    instances = list(zip(spans.row, spans.start, spans.stop, strict=True))
    expected = torch.stack([REDUCTIONS[pooling](kept[row, start:stop]) for row, start, stop in instances])
    check(experts.pooled(), expected, pooling)
    counts = torch.stack([sent[row, start:stop].sum(0) for row, start, stop in instances])
    assert torch.equal(experts.n_sent(), counts.float())


def one_text(n_tokens: int, *instances: tuple[int, int]) -> Spans:
    start, stop = np.array(instances, dtype=np.int64).T
    return Spans(np.zeros(len(instances), dtype=np.int64), start, stop, (1, n_tokens))


def test_the_maximum_is_negative_only_where_every_token_went_to_the_expert():
    experts = ExpertPool(one_text(3, (0, 2), (0, 3), (2, 3)), 2, 1, "max")
    experts.add(torch.tensor([[-2.0], [-1.0]]), torch.tensor([1, 0]), torch.tensor([0, 0]))
    assert experts.pooled().tolist() == [[-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_the_mean_counts_unsent_tokens_and_is_summed_in_single_precision():
    experts = ExpertPool(one_text(4, (0, 4)), 1, 1, "mean")
    # The sum, 2051, is not a number of float16, whose spacing there is 2.
    values = torch.tensor([[2048.0], [1.0], [2.0]], dtype=torch.float16)
    experts.add(values, torch.tensor([0, 1, 2]), torch.tensor([0, 0, 0]))
    assert experts.pooled().dtype == torch.float16
    assert experts.pooled().item() == float(torch.tensor(2051 / 4, dtype=torch.float16))


def test_the_last_token_is_zero_where_only_earlier_ones_were_sent():
    experts = ExpertPool(one_text(3, (0, 3), (0, 2)), 1, 1, "last")
    experts.add(torch.tensor([[5.0], [7.0]]), torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert experts.pooled().tolist() == [[0.0], [7.0]]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_rows_of_tokens_in_no_instance_leave_no_trace(pooling):
    experts = ExpertPool(one_text(3, (0, 1)), 1, 1, pooling)
    experts.add(torch.tensor([[9.0], [-9.0]]), torch.tensor([1, 2]), torch.tensor([0, 0]))
    assert experts.pooled().tolist() == [[0.0]]
    assert experts.n_sent().tolist() == [[0.0]]


def test_tokens_sent_without_values_are_counted():
    experts = ExpertPool(one_text(3, (0, 3), (1, 2)), 2, 1, "max")
    experts.send(torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0]))
    assert experts.n_sent().tolist() == [[1.0, 2.0], [0.0, 1.0]]
    assert experts.pooled() is None


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_value_that_is_not_a_number_is_never_lost(pooling):
    values = torch.tensor([[1.0], [float("nan")]])
    spans = one_text(2, (0, 2))
    for layout in (spans.slices, spans.segments):
        assert layout(2, values.device).pool(values, 1, pooling).isnan().all()
    experts = ExpertPool(spans, 1, 1, pooling)
    experts.add(values, torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert experts.pooled().isnan().all()
