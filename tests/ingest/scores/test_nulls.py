"""p-values: uniform where labels mean nothing, exact where they can be counted, the same however they are computed."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from neuronlake.ingest.corpora.labels import LabelIndex
from neuronlake.ingest.scores import nulls
from neuronlake.ingest.scores.best import SCORE_NAMES
from neuronlake.ingest.scores.nulls import SMALLEST_P, deviates, p_values
from neuronlake.ingest.scores.scoring import score

from ...labels import label_index


def functions(n_instances: int) -> LabelIndex:
    """Return a rare function and a balanced one, each with the rest as negatives and with explicit ones."""
    draw = np.random.default_rng(1)
    rare, balanced = (draw.permutation(n_instances) < count for count in (25, n_instances // 2))
    table = np.stack([rare, balanced, rare, balanced]).astype(int)
    outside = draw.random((2, n_instances)) < 0.3
    table[2:][outside & (table[2:] == 0)] = -1
    return label_index(table, [True, True, False, False])


def at_rest(share: float, n_neurons: int, n_instances: int, *, below: float = 0.0) -> np.ndarray:
    """Return activations of which a share is 0, a share is below, and the rest above."""
    draw = np.random.default_rng(2)
    values = draw.random((n_neurons, n_instances)).astype(np.float32) + 1
    place = draw.random(values.shape)
    values[place < share + below] *= -1
    values[place < share] = 0
    return values


def p_of_labels(labels: np.ndarray, activations: np.ndarray, n_above: int) -> np.ndarray:
    """Return the p of labels of as many positives [arrangements, instances], scored by scikit-learn."""
    n, n_positive = labels.shape[1], int(labels[0].sum())
    scores = [[average_precision_score(each, activations) for each in (row == 1, row == 0)] for row in labels]
    counts = np.array([n_positive, n - n_positive])
    excess = counts * (np.array(scores) - counts / n)
    return p_values(excess, np.full(len(labels), n_above), n_positive, n - n_positive)


@pytest.mark.long
@pytest.mark.parametrize(
    ("share", "below"), [(0, 0), (0.3, 0), (0.6, 0), (0.95, 0), (0.6, 0.2)], ids=["0%", "30%", "60%", "95%", "routed"]
)
def test_meaningless_labels_get_uniform_p_values(share, below):
    n_neurons = 6000
    found = score(at_rest(share, n_neurons, 1000, below=below), functions(1000), n_top=0).p_value
    for function, level in itertools.product(range(4), (0.5, 0.2, 0.05, 0.01, 0.001)):
        rate = (found[:, function] <= level).mean()
        error = 4 * math.sqrt(level * (1 - level) / n_neurons) + 0.12 * level
        assert rate <= level + error, (function, level)
        # Of 25 positives seldom more than a few are above the zeros of 95%: p takes few values, and errs upwards.
        if not (share == 0.95 and function in (0, 2)):
            assert rate >= level - error, (function, level)


@pytest.mark.long
@pytest.mark.parametrize("n_above", [10, 9, 5, 2, 1])
@pytest.mark.parametrize("n_positive", [1, 3, pytest.param(5, marks=pytest.mark.slow), 9])
def test_p_values_of_few_instances_are_those_of_all_arrangements(n_positive, n_above):
    n = 10
    activations = np.where(np.arange(n) < n_above, n - np.arange(n), 0)
    arrangements = []
    for chosen in itertools.combinations(range(n), n_positive):
        labels = np.zeros(n, int)
        labels[list(chosen)] = 1
        arrangements.append(labels)
    ap = np.array([average_precision_score(each, activations) for each in arrangements])
    complement = np.array([average_precision_score(1 - each, activations) for each in arrangements])
    tails = [(values[None] >= values[:, None] - 1e-9).mean(axis=1) for values in (ap, complement)]
    smaller = np.minimum(*tails)
    exact = (smaller[None] <= smaller[:, None] + 1e-9).mean(axis=1)
    found = p_of_labels(np.array(arrangements), activations, n_above)
    # Within the error of a table, or above it where few arrangements make great steps.
    assert (found >= 0.6 * exact).all()
    np.testing.assert_allclose(found, exact, rtol=0.1, atol=0.1 if n_above > 2 else 0.2)


@pytest.mark.parametrize(("rank", "n"), [(1, 100_000), (3, 100_000), (40, 100_000), (2, 300), (20, 300)])
@pytest.mark.parametrize("is_last", [False, True])
def test_the_rank_of_one_positive_gives_p(rank, n, is_last):
    labels = np.zeros(n, int)
    labels[-rank if is_last else rank - 1] = 1
    # The one positive ranks as high, or as low, in 2 * rank of n arrangements.
    assert p_of_labels(labels[None], -np.arange(n), n)[0] == pytest.approx(2 * rank / n, rel=0.4)


@pytest.mark.parametrize(("second", "n_better"), [(2, 1), (3, 2), (4, 3), (6, 5)])
def test_the_tail_of_two_positives_is_that_counted(second, n_better):
    labels = np.zeros(1000, int)
    labels[[0, second - 1]] = 1
    # Of the pairs of ranks, (1, 2) to (1, 6) score highest, and as many pairs are as improbable for the complement.
    expected = 2 * n_better / math.comb(1000, 2)
    assert p_of_labels(labels[None], -np.arange(1000), 1000)[0] == pytest.approx(expected, rel=0.4)


@pytest.mark.slow
@pytest.mark.parametrize(("n_positive", "n_above"), [(4, 400), (60, 400), (60, 130), (200, 400), (200, 130)])
def test_the_tail_is_that_of_direct_draws(n_positive, n_above):
    n, n_draws = 400, 40_000
    draw = np.random.default_rng(5)
    labels = draw.permuted(np.tile(np.arange(n) < n_positive, (n_draws, 1)), axis=1)
    excess = []
    for each, count in ((labels, n_positive), (~labels, n - n_positive)):
        true = np.cumsum(each[:, :n_above], axis=1)
        terms = (true / np.arange(1, n_above + 1) * each[:, :n_above]).sum(axis=1)
        excess.append(terms - true[:, -1] * count / n)
    found = p_values(np.stack(excess, axis=1), np.full(n_draws, n_above), n_positive, n - n_positive)
    for level, tolerance in ((0.1, 0.12), (0.01, 0.25), (0.001, 0.6)):
        # Four positives leave few values of the complement: p is then above its share.
        assert (found <= level).mean() == pytest.approx(level, rel=tolerance), level


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("is_rest", [True, False])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_detector_and_a_perfectly_inverted_one_get_the_smallest_p(share, is_rest, sign):
    draw = np.random.default_rng(3)
    labels = (draw.permutation(600) < 200).astype(int)
    values = sign * labels + 0.5 * draw.random(600)
    if share:
        values = np.maximum(values - np.quantile(values, share), 0)
    found = score(values.astype(np.float32)[None], label_index(labels[None], [is_rest]))
    assert found.p_value.tolist() == [[SMALLEST_P]]


def test_a_constant_neuron_has_a_p_of_one():
    found = score(np.full((1, 1000), -1.5, np.float32), functions(1000))
    assert found.p_value.tolist() == [[1.0] * 4]


@pytest.mark.parametrize("n_above", [2000, 900, 40, 3])
@pytest.mark.parametrize("n_positive", [1, 30, 1000])
def test_p_never_rises_with_average_precision(n_positive, n_above):
    ap = np.linspace(n_positive / 2000, 1, 3000)
    excess = np.stack([n_positive * (ap - n_positive / 2000), np.full(len(ap), -1.0)], axis=1)
    p = p_values(excess, np.full(len(ap), n_above), n_positive, 2000 - n_positive)
    assert (np.diff(p) <= 1e-12).all()
    assert p[0] > 0.3


def test_p_values_do_not_depend_on_blocks_threads_or_what_came_before():
    activations = np.concatenate([at_rest(share, 20, 1000) for share in (0.0, 0.5, 0.9)])
    labels = functions(1000)
    nulls._table.cache_clear()
    whole = score(activations, labels).p_value
    nulls._table.cache_clear()
    backwards = [score(activations[start : start + 20], labels).p_value for start in (40, 20, 0)]
    assert whole.tobytes() == np.concatenate(backwards[::-1]).tobytes()
    nulls._table.cache_clear()
    assert whole.tobytes() == score(activations, labels, n_threads=3).p_value.tobytes()


def test_a_tie_group_in_the_middle_counts_as_rest():
    activations = at_rest(0.6, 300, 1000, below=0.2)
    labels = functions(1000)
    routed, rectified = score(activations, labels), score(np.maximum(activations, 0), labels)
    ap = SCORE_NAMES.index("ap")
    assert np.abs(routed.scores[:, :, ap] - rectified.scores[:, :, ap]).max() > 0
    assert routed.p_value.tobytes() == rectified.p_value.tobytes()


def test_deviates_are_those_of_the_p_values_and_go_on_beyond_the_smallest():
    # The label's positives on top of 16 and 16: the excess of a perfect score, and shares of it.
    excess = np.linspace(0.1, 1, 10)[:, None] * np.array([8.0, 8.0])
    known, n_above = np.full(10, 32), (16, 16)
    p, z = p_values(excess, known, *n_above), deviates(excess, known, *n_above)
    assert 2 * stats.norm.sf(z[p > SMALLEST_P]) == pytest.approx(p[p > SMALLEST_P])
    assert np.all(2 * stats.norm.sf(z[p == SMALLEST_P]) <= SMALLEST_P * 1.000001)
    assert np.all(np.diff(z) >= 0)
    # Of many instances the excess is normal, and so is what lies beyond the tables.
    table = np.full(3, 20_000), 10_000, 10_000
    below, beyond, far = deviates(np.array([[150.0, 150.0], [300.0, 300.0], [900.0, 900.0]]), *table)
    assert beyond / below == pytest.approx(2, rel=0.15)
    assert far / below == pytest.approx(6, rel=0.15)
