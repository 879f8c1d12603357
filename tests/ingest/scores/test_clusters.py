"""Instances that share a text, a group of texts or a word: what their correlations are, and p-values that know them."""

import numpy as np
import pytest
from scipy.special import stdtr
from scipy.stats import rankdata

from neuronlake.ingest.scores.clusters import Clusters, tails
from neuronlake.ingest.scores.scoring import score

from ...labels import label_index

N_TEXTS, N_SPANS, N_WORDS, N_NEURONS = 300, 10, 1500, 300
TEXT = np.repeat(np.arange(N_TEXTS), N_SPANS)
GROUP = TEXT // 10
N = len(TEXT)


def words(draw: np.random.Generator) -> np.ndarray:
    """Return a word of each instance, by Zipf's law: of the most frequent there are 200."""
    frequency = 1 / (np.arange(N_WORDS) + 2)
    return np.unique(draw.choice(N_WORDS, N, p=frequency / frequency.sum()), return_inverse=True)[1]


def neurons(clusterings: dict[str, np.ndarray], share: float, draw: np.random.Generator) -> np.ndarray:
    """Return activations of which each clustering makes a share of the variance, rectified for one neuron in two."""
    parts = [draw.normal(size=(N_NEURONS, of.max() + 1))[:, of] for of in clusterings.values()]
    own = draw.normal(size=(N_NEURONS, N))
    values = np.sqrt(share) * sum(parts) + np.sqrt(1 - share * len(parts)) * own
    values[::2] = np.maximum(values[::2], 0)
    return np.ascontiguousarray(values, np.float32)


def correlations(clusters: Clusters, activations: np.ndarray) -> np.ndarray:
    """Return the correlations of neurons [neurons, clusterings]."""
    return clusters.correlations(activations, activations.min(1), activations.max(1))


def labels_by(of: np.ndarray, correlation: float, draw: np.random.Generator, n_functions: int = 30) -> np.ndarray:
    """Return random labels of many prevalences, correlated within clusters. [functions, instances]"""
    table = np.empty((n_functions, len(of)), int)
    for index, prevalence in enumerate(np.geomspace(0.02, 0.5, n_functions)):
        chances = np.full(of.max() + 1, prevalence)
        if correlation == 1:
            chances = (draw.random(len(chances)) < prevalence).astype(float)
        elif correlation:
            spread = 1 / correlation - 1
            chances = draw.beta(prevalence * spread, (1 - prevalence) * spread, len(chances))
        table[index] = draw.random(len(of)) < chances[of]
        table[index, :2] = 0, 1
    return table


def test_a_neuron_s_correlation_is_that_of_its_ranks_within_clusters():
    draw = np.random.default_rng(0)
    word = words(draw)
    activations = np.round(4 * neurons({"text": TEXT, "word": word}, 0.3, draw)) / 4  # that classes can tell apart
    table = labels_by(TEXT, 0, draw)
    clusters = Clusters.build(label_index(table), {"text": TEXT, "group": GROUP, "word": word})

    ranks = rankdata(activations, axis=1) - (N + 1) / 2
    variance = (ranks**2).mean(1)
    within = {"text": np.equal.outer(TEXT, TEXT), "word": np.equal.outer(word, word)}
    within["group"] = np.equal.outer(GROUP, GROUP) & ~within["text"]
    for place, name in enumerate(clusters.names):
        same, of = within[name] & ~np.eye(N, dtype=bool), {"text": TEXT, "group": GROUP, "word": word}[name]
        apart = ~np.equal.outer(of, of)
        inside, outside = (
            np.einsum("ni,ij,nj->n", ranks[:5], pairs.astype(float), ranks[:5], optimize=True)
            / pairs.sum()
            / variance[:5]
            for pairs in (same, apart)
        )
        expected = (inside - outside) / (1 - outside)
        if name != "group":
            sizes = np.bincount(of)
            sizes = sizes[sizes > 0]
            sums = np.array([np.bincount(of, row) for row in ranks[:5]])[:, np.bincount(of) > 0]
            between = (sums**2 / sizes).sum(1) / (len(sizes) - 1)
            inner = ((ranks[:5] ** 2).sum(1) - (sums**2 / sizes).sum(1)) / (N - len(sizes))
            mean_size = (N - (sizes**2).sum() / N) / (len(sizes) - 1)
            expected = np.maximum(expected, (between - inner) / (between + (mean_size - 1) * inner))
        assert correlations(clusters, activations[:5])[:, place] == pytest.approx(np.maximum(expected, 0), abs=1e-6)


@pytest.mark.parametrize("shift", [0, 100], ids=["around 0", "far from 0"])
def test_ranks_by_classes_give_nearly_the_correlation_of_exact_ranks(shift):
    draw = np.random.default_rng(1)
    activations = neurons({"text": TEXT}, 0.3, draw) + np.float32(shift)
    clusters = Clusters.build(label_index(labels_by(TEXT, 0, draw)), {"text": TEXT})
    exact = rankdata(activations, axis=1).astype(np.float32)
    assert correlations(clusters, activations) == pytest.approx(correlations(clusters, exact), abs=0.03)


def test_a_neuron_without_activity_has_no_correlation_whatever_the_sign_of_its_zeros():
    draw = np.random.default_rng(1)
    clusters = Clusters.build(label_index(labels_by(TEXT, 0, draw)), {"text": TEXT})
    zeros = np.where(TEXT % 2, np.float32(0), np.float32(-0.0))[None]
    assert correlations(clusters, zeros).tolist() == [[0]]


def test_activations_next_to_nothing_rank_as_others_do():
    draw = np.random.default_rng(1)
    clusters = Clusters.build(label_index(labels_by(TEXT, 0, draw)), {"text": TEXT})
    activations = np.maximum(draw.integers(-8, 8, N_TEXTS)[TEXT] + draw.integers(-4, 5, N), 0)[None].astype(np.float32)
    tiny = activations * np.float32(2.0**-120)
    assert correlations(clusters, tiny) == pytest.approx(correlations(clusters, activations), abs=1e-6)


def test_tails_are_those_of_student_s_t():
    deviate, freedom = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 6, 61), [4, 10, 29.9, 30, 50, 300, 9999]))
    expected = np.maximum(2 * stdtr(freedom, -deviate), 1e-6)
    assert tails(deviate, freedom) == pytest.approx(expected, rel=1e-7)
    assert tails(deviate[:5], np.full(5, np.inf)) == pytest.approx(tails(deviate[:5], np.full(5, 1e4)))


@pytest.mark.parametrize("is_rest", [True, False])
def test_pairs_and_clusters_of_labels_are_counted(is_rest):
    draw = np.random.default_rng(2)
    of = {"text": np.array([0, 0, 0, 1, 1, 2, 2, 3]), "group": np.array([0, 0, 0, 0, 0, 1, 1, 1])}
    table = draw.integers(0 if is_rest else -1, 2, (6, 8))
    table[:, :2] = 0, 1
    clusters = Clusters.build(label_index(table, is_rest=is_rest), of)
    assert clusters.names == ("text", "group")
    for function, row in enumerate(table):
        evaluated = row >= 0
        centred = np.where(evaluated, row - row[evaluated].mean(), 0)
        product = np.outer(centred, centred)
        in_text, in_group = (np.equal.outer(code, code) for code in of.values())
        text, group = (product * (in_text & ~np.eye(8, dtype=bool))).sum(), (product * (in_group & ~in_text)).sum()
        expected = np.maximum([text, group], 0) / np.trace(product)
        assert clusters.pairs[function] == pytest.approx(expected)
        sums = [np.bincount(code, centred) for code in of.values()]
        assert clusters.n_clusters[function] == pytest.approx([(x**2).sum() ** 2 / (x**4).sum() for x in sums])


def test_labels_of_whole_texts_are_noticed_and_independent_ones_are_not():
    draw = np.random.default_rng(3)
    word = words(draw)
    of = {"text": TEXT, "word": word}
    functions = tuple(("f", str(index)) for index in range(30))
    by_text, by_word, by_span = (labels_by(code, 1, draw) for code in (TEXT, word, np.arange(N)))
    assert Clusters.build(label_index(by_text), of).notices(functions) == [
        "labels go by text in 30 of 30 functions (f/0, f/1, f/2 and 27 more): their p-values count texts, not instances"
    ]
    assert "by word in" in Clusters.build(label_index(by_word), of).notices(functions)[0]
    assert Clusters.build(label_index(by_span), of).notices(functions) == []


@pytest.mark.slow
def test_where_no_instances_share_anything_p_values_are_those_of_independent_ones():
    draw = np.random.default_rng(4)
    activations, labels = neurons({}, 0, draw), label_index(labels_by(TEXT, 0, draw))
    clusters = Clusters.build(labels, {name: np.arange(N) for name in ("text", "group", "word")})
    assert clusters.names == ()
    assert score(activations, labels, clusters).p_value.tobytes() == score(activations, labels).p_value.tobytes()


@pytest.mark.long
@pytest.mark.parametrize("correlation", [0, 0.1, 1])
@pytest.mark.parametrize("name", ["text", "group", "word"])
def test_random_labels_get_uniform_p_values_whatever_they_go_by(name, correlation):
    draw = np.random.default_rng(5)
    of = {"text": TEXT, "group": GROUP, "word": words(draw)}
    activations = neurons(of, 0.2, draw)
    labels = label_index(labels_by(of[name], correlation, draw))
    independent = score(activations, labels).p_value
    p = score(activations, labels, Clusters.build(labels, of)).p_value
    if correlation == 1:
        assert np.mean(independent <= 0.001) > 0.02
    if correlation == 0:
        assert 0.04 < np.mean(p <= 0.05) < 0.06
    assert np.mean(p <= 0.05) < 0.06
    assert np.mean(p <= 0.01) < 0.013
    assert np.mean(p <= 0.001) <= 0.002


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("name", "correlation"), [("text", 0.1), ("text", 1), ("word", 0.1)])
def test_an_effect_that_who_knows_the_null_finds_in_nine_of_ten_neurons_is_found_in_eight(name, correlation):
    draw = np.random.default_rng(7)
    of = {"text": TEXT, "word": words(draw)}
    labels = label_index(labels_by(of[name], correlation, draw, n_functions=8)[[5]])
    positive = labels.dense(np.arange(N))[0] == 1
    null, planted = (np.concatenate([neurons(of, 0.2, draw)[1::2] for _ in range(4)]) for _ in range(2))
    critical = np.quantile(score(null, labels).scores[:, 0, 0], 0.995)
    low, high = 0.0, 4.0
    for _ in range(9):  # halve until 90% of planted effects are beyond the critical value
        effect = (low + high) / 2
        values = planted + np.float32(effect) * positive.astype(np.float32)
        is_found = score(values, labels).scores[:, 0, 0] > critical
        low, high = (effect, high) if is_found.mean() < 0.9 else (low, effect)
    assert np.mean(score(values, labels, Clusters.build(labels, of)).p_value <= 0.01) >= 0.8
