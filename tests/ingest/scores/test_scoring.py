"""The kernel against scikit-learn."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.labels import LabelIndex
from neuronlake.ingest.scores.best import SCORE_NAMES
from neuronlake.ingest.scores.scoring import STATISTIC_NAMES, score

from ...labels import label_index


def expected_scores(activations: np.ndarray, labels: np.ndarray, half: np.ndarray) -> dict[str, float]:
    """Return scikit-learn's scores of one neuron for one function; labels are 1, 0 or -1 (outside)."""

    def both(where):
        y, a = labels[where] == 1, activations[where].astype(np.float64)
        if y.all() or not y.any():
            return np.nan, np.nan
        return average_precision_score(y, a), average_precision_score(~y, a)

    inside = labels >= 0
    y, a = labels[inside] == 1, activations[inside].astype(np.float64)
    ap, ap_complement = both(inside)
    (ap_a, complement_a), (ap_b, complement_b) = both(inside & (half == 0)), both(inside & (half == 1))
    found = (ap, ap_complement, roc_auc_score(y, a), a[y].mean(), a[~y].mean(), ap_a, ap_b, complement_a, complement_b)
    return dict(zip(SCORE_NAMES, found, strict=True))


SPECIAL = [0.0, -0.0, 1e-45, -1e-45, 1.2e-38, -1.2e-38, 1.0, np.nextafter(np.float32(1), np.float32(2)), -1.0, 3e38]
VALUES = {
    "ties": st.sampled_from(SPECIAL),
    "relu": st.floats(-3, 3, width=32).map(lambda value: max(value, 0.0)),
    "continuous": st.floats(-1e6, 1e6, width=32),
    "constant": st.just(0.25),
    "two": st.sampled_from([-0.0, 0.0]),
    "kept in 16 bits": st.floats(width=16, allow_nan=False, allow_infinity=False),
    "powers of two": st.sampled_from([-(2.0**100), -4.0, -2.0, -0.0, 0.0, 2.0, 2.0**-100]),
}


@st.composite
def problems(draw):
    n = draw(st.integers(2, 40))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        kind = VALUES[draw(st.sampled_from(sorted(VALUES)))]
        rows.append(draw(st.lists(kind, min_size=n, max_size=n)))
    is_rest = draw(st.lists(st.booleans(), min_size=1, max_size=4))
    labels = []
    for rest in is_rest:
        low = 0 if rest else -1
        row = draw(st.lists(st.integers(low, 1), min_size=n, max_size=n))
        positive, negative = draw(st.permutations(range(n)))[:2]
        if draw(st.booleans()):  # one positive only
            row = [min(value, 0) for value in row]
        row[positive], row[negative] = 1, 0
        labels.append(row)
    half = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    return np.array(rows, np.float32), np.array(labels), is_rest, np.array(half)


@settings(max_examples=80, deadline=None)
@given(problems())
@example((np.array([[0, 0, 1e-45]], np.float32), np.array([[1, 0, 0]]), [False], np.array([0, 0, 0])))
@example(
    (
        np.array([[0, -0.0, 1e-45, 1, 1, 0]], np.float32),
        np.array([[1, 0, 0, 1, 0, 0], [1, -1, 0, -1, 0, 1]]),
        [True, False],
        np.array([0, 1, 0, 1, 1, 0]),
    )
)
def test_every_score_is_that_of_scikit_learn(problem):
    activations, table, is_rest, half = problem
    found = score(activations, label_index(table, is_rest, half))
    for neuron, values in enumerate(activations):
        for function, labels in enumerate(table):
            expected = expected_scores(values, labels, half)
            for place, name in enumerate(SCORE_NAMES):
                got = found.scores[neuron, function, place]
                if name.startswith("mean"):
                    # In the type it is stored in, which has no half of its own smallest number.
                    stored = np.float32(expected[name])
                    assert got == pytest.approx(stored, rel=1e-6, abs=1e-6 * float(np.abs(values).max())), name
                else:
                    assert got == pytest.approx(expected[name], abs=1e-6, nan_ok=True), name


@settings(max_examples=60, deadline=None)
@given(problems())
def test_statistics_are_those_of_numpy(problem):
    activations, table, is_rest, half = problem
    found = score(activations, label_index(table, is_rest, half)).statistics
    wide = activations.astype(np.float64)
    expected = [wide.mean(1), wide.std(1), wide.min(1), wide.max(1), (wide > 0).mean(1)]
    for place, name in enumerate(STATISTIC_NAMES):
        scale = 1.0 if name == "firing_rate" else np.abs(wide).max(1)
        assert np.all(np.abs(found[:, place] - expected[place]) <= 1e-6 * scale + 1e-45), name


@pytest.mark.parametrize("n_instances", [1_000, 20_000])
def test_scores_of_many_instances_are_those_of_scikit_learn(n_instances):
    draw = np.random.default_rng(3)
    activations = draw.normal(size=(3, n_instances)).astype(np.float32)
    activations[1] = np.maximum(activations[1] - 0.5, 0)
    activations[2] = np.round(activations[2], 1)
    table = np.stack([draw.random(n_instances) < 0.3, draw.random(n_instances) < 0.001, np.arange(n_instances) == 7])
    table = np.concatenate([table, table]).astype(int)
    table[3:][(draw.random((3, n_instances)) < 0.5) & (table[3:] == 0)] = -1
    half = draw.integers(0, 2, n_instances)
    found = score(activations, label_index(table, [True] * 3 + [False] * 3, half)).scores
    for neuron, values in enumerate(activations):
        for function, labels in enumerate(table):
            expected = list(expected_scores(values, labels, half).values())
            np.testing.assert_allclose(found[neuron, function], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("is_rest", [True, False])
@pytest.mark.parametrize("value", [0.0, -1.5, 7.0])
def test_a_constant_neuron_scores_the_prevalence_however_the_instances_are_sorted(is_rest, value):
    table = np.array([[1] * 10 + [0] * 30])
    half = np.array([0, 1] * 20)
    for labels in (table, table[:, ::-1]):
        found = score(np.full((1, 40), value, np.float32), label_index(labels, [is_rest], half))
        ap, complement, auroc, positive, negative, ap_a, ap_b, complement_a, complement_b = found.scores[0, 0]
        assert (ap, complement, auroc, positive, negative) == (0.25, 0.75, 0.5, value, value)
        assert (ap_a, ap_b, complement_a, complement_b) == (0.25, 0.25, 0.75, 0.75)
        assert (found.top_instance == -1).all()


def simple(n: int) -> LabelIndex:
    return label_index((np.arange(n) % 2)[None], [True], np.zeros(n))


def test_top_instances_come_highest_first_without_those_at_the_minimum():
    found = score(np.array([[0, 3, 0, 5, 4, 0]], np.float32), simple(6), n_top=5)
    assert found.top_instance.tolist() == [[3, 4, 1, -1, -1]]
    assert found.top_value[0, :3].tolist() == [5, 4, 3]


def test_as_many_top_instances_as_asked_are_kept():
    activations = np.random.default_rng(0).permutation(1000).astype(np.float32)[None]
    found = score(activations, simple(1000), n_top=7)
    assert found.top_value.tolist() == [[999, 998, 997, 996, 995, 994, 993]]
    assert activations[0, found.top_instance[0]].tolist() == found.top_value[0].tolist()


def test_equal_activations_are_ranked_in_the_order_of_the_instances():
    found = score(np.array([[-0.0, 2, 0.0, 2, -1, 0.0]], np.float32), simple(6), n_top=5)
    assert found.top_instance.tolist() == [[1, 3, 0, 2, 5]]


@pytest.mark.parametrize("n_neurons", [1, 3, 50])
def test_threads_do_not_change_the_result(n_neurons):
    activations = np.random.default_rng(5).normal(size=(n_neurons, 200)).astype(np.float32)
    one, four = (score(activations, simple(200), n_threads=n) for n in (1, 4))
    for name in ("scores", "statistics", "top_instance", "top_value"):
        assert getattr(one, name).tobytes() == getattr(four, name).tobytes(), name


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_the_neuron(value):
    activations = np.zeros((4, 6), np.float32)
    activations[2, 3] = value
    with pytest.raises(IngestError, match=f"^activation {value} at neuron 2, instance 3$"):
        score(activations, simple(6))


def test_infinities_that_cancel_are_refused():
    with pytest.raises(IngestError, match="activation inf at neuron 0, instance 1"):
        score(np.array([[0, np.inf, -np.inf]], np.float32), simple(3))


def test_finite_activations_with_an_infinite_float32_sum_pass():
    found = score(np.full((1, 4), 3e38, np.float32), simple(4))
    assert found.statistics[0, 0] == np.float32(3e38)


@pytest.mark.parametrize(("labels", "counts"), [([0, 0, 0], "0 positive and 3"), ([1, 1, 1], "3 positive and 0")])
def test_a_function_of_one_class_is_refused_by_name(labels, counts):
    with pytest.raises(IngestError, match=f"function f/0 has {counts} negative measured instances"):
        score(np.zeros((1, 3), np.float32), label_index(np.array([labels]), [True], np.zeros(3)))


@pytest.mark.parametrize(
    "activations", [np.zeros((2, 3)), np.zeros(3, np.float32), np.zeros((3, 2), np.float32).T], ids=["f64", "1d", "F"]
)
def test_an_array_the_kernel_cannot_walk_is_refused(activations):
    with pytest.raises(TypeError, match="C-contiguous float32 array"):
        score(activations, simple(3))


def test_labels_of_other_instances_are_refused():
    with pytest.raises(ValueError, match="3 instances of activations, 4 of labels"):
        score(np.zeros((1, 3), np.float32), simple(4))
