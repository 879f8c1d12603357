"""Balanced k-means finds what was planted, in clusters of equal sizes."""

import numpy as np
import pytest
from k_means_constrained import KMeansConstrained
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from neuronlake.analysis.partitions.clustering import BalancedKMeans, inertia, unit_rows


def planted(n_rows: int, n_clusters: int, *, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows around random centres [rows, 20], and the centre of each."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(n_rows) % n_clusters)
    centres = generator.normal(size=(n_clusters, 20))
    return centres[labels] + noise * generator.normal(size=(n_rows, 20)), labels


def test_planted_clusters_are_recovered():
    rows, labels = planted(120, 6, noise=0.1)
    assert adjusted_rand_score(labels, BalancedKMeans(6).fit_predict(rows)) == 1


def test_directions_are_recovered_whatever_the_lengths_of_rows():
    rows, labels = planted(120, 6, noise=0.1)
    lengths = np.random.default_rng(1).choice([1, 1000], size=(120, 1))
    assert adjusted_rand_score(labels, BalancedKMeans(6).fit_predict(rows * lengths)) == 1
    assert adjusted_rand_score(labels, BalancedKMeans(6, normalize=False).fit_predict(rows * lengths)) < 0.9


@pytest.mark.parametrize("n_rows", [60, 61, 64, 65, 7])
def test_sizes_differ_by_one_at_most(n_rows):
    rows, _ = planted(n_rows, 2, noise=3)  # that would be other sizes by themselves
    sizes = np.bincount(BalancedKMeans(7, n_init=1).fit_predict(rows))
    assert sorted(sizes) == [n_rows // 7] * (7 - n_rows % 7) + [n_rows // 7 + 1] * (n_rows % 7)


def test_a_seed_gives_the_same_clusters_and_another_seed_others():
    rows = np.random.default_rng(0).normal(size=(90, 20))
    first, again, other = (BalancedKMeans(6, n_init=1, random_state=seed).fit(rows).labels_ for seed in (0, 0, 1))
    assert (first == again).all()
    assert adjusted_rand_score(first, other) < 0.9


def test_centres_and_inertia_are_of_the_labels():
    rows, _ = planted(50, 4, noise=2)
    fitted = BalancedKMeans(4, normalize=False).fit(rows)
    centres = np.array([rows[fitted.labels_ == cluster].mean(axis=0) for cluster in range(4)])
    np.testing.assert_allclose(fitted.cluster_centers_, centres)
    assert fitted.inertia_ == pytest.approx(sum(np.linalg.norm(rows - centres[fitted.labels_], axis=1) ** 2))


def test_more_starts_find_no_worse():
    rows = np.random.default_rng(0).normal(size=(90, 20))
    one, ten = (BalancedKMeans(9, n_init=n).fit(rows).inertia_ for n in (1, 10))
    assert ten < one


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1e6, 1e12])
def test_clusters_do_not_depend_on_the_scale_of_rows(scale):
    rows, labels = planted(60, 5, noise=0.2)
    fitted = BalancedKMeans(5, normalize=False).fit(scale * rows)
    assert adjusted_rand_score(labels, fitted.labels_) == 1
    assert fitted.inertia_ == pytest.approx(scale**2 * inertia(rows, labels))


def test_rows_of_zeros_stay_where_they_are():
    rows, _ = planted(20, 2, noise=0.1)
    rows[:3] = 0
    assert (unit_rows(rows)[:3] == 0).all()
    fitted = BalancedKMeans(2).fit(rows)
    assert np.isfinite(fitted.cluster_centers_).all()
    assert sorted(np.bincount(fitted.labels_)) == [10, 10]


def test_equal_rows_are_still_divided_equally():
    fitted = BalancedKMeans(3).fit(np.zeros((9, 4)))
    assert (np.bincount(fitted.labels_).tolist(), fitted.inertia_) == ([3, 3, 3], 0)


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
@pytest.mark.parametrize("normalized", [True, False])
def test_label_i_is_of_the_cluster_that_centre_i_becomes(normalized, scale):
    rows, _ = planted(60, 5, noise=0.2)
    found = BalancedKMeans(5, normalize=normalized).fit(scale * rows)
    order = np.array([3, 0, 4, 1, 2])
    started = BalancedKMeans(5, normalize=normalized, init=found.cluster_centers_[order]).fit(scale * rows)
    assert (order[started.labels_] == found.labels_).all()
    np.testing.assert_allclose(started.cluster_centers_, found.cluster_centers_[order])


def test_given_centres_are_left_as_they_are_and_start_once(monkeypatch):
    rows, labels = planted(60, 5, noise=0.2)
    centres = np.stack([rows[labels == each].mean(axis=0) for each in range(5)]) + 0.1
    before, fits, fit = centres.copy(), [], KMeansConstrained.fit
    monkeypatch.setattr(KMeansConstrained, "fit", lambda *arguments: fits.append(1) or fit(*arguments))
    assert (BalancedKMeans(5, normalize=False, init=centres).fit(rows).labels_ == labels).all()
    assert (centres == before).all()
    assert len(fits) == 1


def test_the_estimator_is_cloned_with_its_parameters():
    estimator = BalancedKMeans(3, normalize=False, n_init=2, max_iter=5, random_state=7)
    assert clone(estimator).get_params() == {
        "n_clusters": 3, "normalize": False, "init": "k-means++", "n_init": 2, "max_iter": 5, "random_state": 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 5}, "n_clusters is 5; of 4 rows it must be 1 to 4"),
        ({"n_clusters": 0}, "n_clusters is 0; of 4 rows it must be 1 to 4"),
        ({"n_clusters": 2, "n_init": 0}, "n_init is 0; it must be at least 1"),
        ({"n_clusters": 2, "max_iter": 0}, "max_iter is 0; it must be at least 1"),
        ({"n_clusters": 2, "init": "random"}, "init is 'random'; it must be 'k-means\\+\\+' or an array of centres"),
        ({"n_clusters": 2, "init": np.eye(4)}, r"init has the shape \(4, 4\); centres must have \(2, 4\)"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        BalancedKMeans(**parameters).fit(np.eye(4))
