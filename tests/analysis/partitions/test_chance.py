"""Random partitions are equal in size and drawn from their seed."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from neuronlake.analysis.partitions.chance import RandomPartition


@pytest.mark.parametrize(("n_rows", "sizes"), [(12, [3, 3, 3, 3]), (14, [3, 3, 4, 4]), (4, [1, 1, 1, 1])])
def test_sizes_differ_by_one_at_most(n_rows, sizes):
    assert sorted(np.bincount(RandomPartition(4).fit_predict(np.zeros((n_rows, 2))))) == sizes


def test_a_seed_gives_the_same_clusters_and_another_seed_others():
    rows = np.zeros((300, 1))
    first, again, other = (RandomPartition(3, random_state=seed).fit(rows).labels_ for seed in (0, 0, 1))
    assert (first == again).all()
    assert abs(adjusted_rand_score(first, other)) < 0.05


def test_neighbours_are_not_kept_together():
    labels = RandomPartition(3).fit(range(300)).labels_
    assert abs(adjusted_rand_score(labels, np.arange(300) // 100)) < 0.05
    assert abs(adjusted_rand_score(labels, np.arange(300) % 3)) < 0.05


def test_more_clusters_than_rows_are_refused():
    with pytest.raises(ValueError, match="n_clusters is 5; of 4 rows it must be 1 to 4"):
        RandomPartition(5).fit(range(4))


def test_the_estimator_is_cloned_with_its_parameters():
    assert clone(RandomPartition(3, random_state=7)).get_params() == {"n_clusters": 3, "random_state": 7}
