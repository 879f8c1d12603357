"""What instances share: their text, the group of their text, their word; and what that takes from a test.

Spans of one text activate a neuron alike, and so do tokens of one word. Where labels go by text or by word too, a test
that takes instances as independent finds functions everywhere. Let rho be the correlation of a neuron between two
instances of one cluster, and x the labels less their mean. Under no association the variance of the sum of activations
over labels is larger than between independent instances by

    D = 1 + sum over clusterings of rho * pairs,    pairs = sum of x_i * x_j over pairs of a cluster / sum of x_i ** 2

(Moulton 1986, with the pairs as they are in place of a correlation of labels). The excess of a neuron is divided by
sqrt(D), and the tail is Student's t of D ** 2 / sum of (rho * pairs) ** 2 / (clusters - 1) degrees of freedom
(Satterthwaite 1946), for `clusters` = (sum of X ** 2) ** 2 / sum of X ** 4 of them carry the labels, X being the sum of
x over a cluster. At least four are taken: ranks are bounded, so tails are light even where one cluster carries most.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

from ...errors import joined
from ..corpora.labels import LabelIndex
from .nulls import SMALLEST_P

# Beyond so many degrees of freedom Student's t is the normal distribution; from so many on, Hill's transform of it is.
_NORMAL = 10_000
_NEARLY_NORMAL = 30
_LEAST_FREEDOM = 4


@dataclass(frozen=True, slots=True)
class Clusters:
    """The clusterings of some instances in which some cluster holds several, and how labels of functions go by them."""

    names: tuple[str, ...]  # of ``text``, ``group`` and ``word`` those that are there
    # The instances of the clusters that hold several, cluster by cluster, and how many each holds; by clustering.
    members: tuple[NDArray[np.uint32], ...]
    sizes: tuple[NDArray[np.int64], ...]
    # [functions, clusterings] each:
    pairs: NDArray[np.float64]  # what a neuron's correlation within clusters inflates the variance of its scores by
    n_clusters: NDArray[np.float64]  # effective number of clusters that carry the labels
    label_correlation: NDArray[np.float64]  # of labels within clusters: 1 where they are the clusters'

    @classmethod
    def build(
        cls, labels: LabelIndex, clusterings: Mapping[str, NDArray[np.int64]], names: tuple[str, ...] | None = None
    ) -> "Clusters":
        """Return how instances cluster, by name of clustering; pairs of one text do not count for its group.

        `names` are the clusterings to tell of, by default those that matter for some function of `labels`.
        """
        codes = {name: np.unique(of, return_inverse=True)[1] for name, of in clusterings.items()}
        alone = _sums(labels, np.arange(labels.n_instances))
        sums = {name: _sums(labels, code) for name, code in codes.items()}
        within = {name: sums["text"] if name == "group" and "text" in sums else alone for name in codes}
        if names is None:
            names = tuple(name for name in codes if (sums[name] > within[name])[0].any())
        sizes = [np.bincount(codes[name]) for name in names]
        orders = [np.argsort(codes[name], kind="stable").astype(np.uint32) for name in names]
        of_functions = np.zeros((3, len(labels.functions), len(names)))
        for place, name in enumerate(names):
            most, pairs, _ = np.maximum(sums[name] - within[name], 0) / alone
            _, square, fourth_power = sums[name]
            n_clusters = square**2 / np.maximum(fourth_power, 1e-300)
            of_functions[:, :, place] = pairs, n_clusters, pairs / np.maximum(most, 1e-9)
        members = tuple(order[np.repeat(size, size) > 1] for order, size in zip(orders, sizes, strict=True))
        return cls(names, members, tuple(size[size > 1] for size in sizes), *of_functions)

    @classmethod
    def joined(cls, parts: "Sequence[Clusters]") -> "Clusters":
        """Return the functions of several indices of the same instances, by the same clusterings, as one."""
        of_functions = ("pairs", "n_clusters", "label_correlation")
        joined = (np.concatenate([getattr(part, name) for part in parts]) for name in of_functions)
        return cls(parts[0].names, parts[0].members, parts[0].sizes, *joined)

    def notices(self, functions: Sequence[tuple[str, str]]) -> list[str]:
        """Return a sentence for each clustering that the labels of functions go by."""
        notices = []
        for place, name in enumerate(self.names):
            is_going = (self.label_correlation[:, place] >= 0.5) & (self.pairs[:, place] >= 0.5)
            if going := ["/".join(functions[function]) for function in np.flatnonzero(is_going).tolist()]:
                go = f"{len(going):,} of {len(functions):,} functions ({joined(going, most=3)})"
                notices.append(f"labels go by {name} in {go}: their p-values count {name}s, not instances")
        return notices

    def correlations(
        self, activations: NDArray[np.float32], lowest: NDArray[np.float32], highest: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the correlation of each neuron's ranks between instances of a cluster [neurons, clusterings].

        Given are activations [neurons, instances], and the least and the highest of each neuron, [neurons] both. Of two
        estimates, by analysis of variance and over all pairs, which large clusters make, the higher; never below 0, and
        above 1 where the instances of large clusters lie further out than others.
        """
        if not self.names:
            return np.zeros((len(activations), 0), np.float32)
        texts = self.names.index("text") if "text" in self.names else -1
        within = np.array([texts if name == "group" else -1 for name in self.names])
        starts = np.cumsum([0, *map(len, self.sizes)])
        members, sizes = np.concatenate(self.members), np.concatenate(self.sizes)
        return _correlate(activations, lowest, highest, members, sizes, starts, within)

    def inflation(self, correlation: NDArray[np.float32], function: int) -> tuple[NDArray[np.float64], ...]:
        """Return D and the degrees of freedom of a function for neurons of some correlations, [neurons] both."""
        wide, pairs = correlation.astype(np.float64), self.pairs[function]
        inflation = 1 + wide @ pairs
        with np.errstate(divide="ignore"):
            freedom = inflation**2 / (wide**2 @ (pairs**2 / np.maximum(self.n_clusters[function] - 1, 1)))
        return inflation, freedom


def tails(deviate: NDArray[np.float64], freedom: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the two-sided p-values of deviates of Student's t, at least `SMALLEST_P`."""
    p_value: NDArray[np.float64] = 2 * ndtr(-_normal_deviates(deviate, freedom))
    is_heavy = freedom < _NEARLY_NORMAL
    p_value[is_heavy] = 2 * stdtr(np.maximum(freedom[is_heavy], _LEAST_FREEDOM), -deviate[is_heavy])
    return np.clip(p_value, SMALLEST_P, 1)


@njit(nogil=True, cache=True, error_model="numpy")
def _normal_deviates(deviate: NDArray[np.float64], freedom: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the normal deviates with the tails of deviates of Student's t (Hill 1970, Communications of the ACM 13).

    From 30 degrees of freedom on, tails above `SMALLEST_P` are off by less than 1e-7 of themselves, in a tenth of the
    time of Student's t. Others are left as they are.
    """
    normal = deviate.copy()
    for index in range(len(deviate)):
        if _NEARLY_NORMAL <= freedom[index] < _NORMAL:
            less = freedom[index] - 0.5
            scale = 48 * less * less
            square = less * math.log1p(deviate[index] * deviate[index] / freedom[index])
            series = (((-0.4 * square - 3.3) * square - 24) * square - 85.5) / (0.8 * square * square + 100 + scale)
            normal[index] = math.sqrt(square) * (1 + (series + square + 3) / scale)
    return normal


def _sums(labels: LabelIndex, cluster: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return sums over the clusters of each function's evaluated instances [3, functions].

    First of ordered pairs of one cluster, each with itself too; then of X ** 2 and of X ** 4, X being the sum of labels
    less their mean over a cluster.
    """
    n_functions, size = len(labels.functions), np.bincount(cluster).astype(np.float64)
    positive, evaluated = labels.counts()[:, 0].T.astype(np.float64)
    mean = positive / evaluated
    # The clusters that hold a label of the function; of others, all instances are unlabelled.
    labelled, place = np.unique(labels.function * len(size) + cluster[labels.instance], return_inverse=True)
    function, of_cluster = np.divmod(labelled, len(size))
    n_evaluated = np.where(labels.is_rest[function], size[of_cluster], np.bincount(place))
    total = np.bincount(place, labels.is_positive) - mean[function] * n_evaluated

    def over_clusters(power: int, of_labelled: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
        unlabelled = (size**power).sum() - np.bincount(function, size[of_cluster] ** power, minlength=n_functions)
        sums = np.bincount(function, of_labelled**power, minlength=n_functions)
        return np.where(labels.is_rest, sums + scale**power * unlabelled, sums)

    pairs = over_clusters(2, n_evaluated, np.ones(n_functions))
    return np.stack([pairs, over_clusters(2, total, mean), over_clusters(4, total, mean)])


@njit(nogil=True, cache=True, error_model="numpy")
def _correlate(
    activations: NDArray[np.float32],
    minimum: NDArray[np.float32],
    maximum: NDArray[np.float32],
    members: NDArray[np.uint32],
    sizes: NDArray[np.int64],
    starts: NDArray[np.int64],
    within: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return each neuron's correlation in each clustering, but for pairs of the clustering `within` it."""
    # Ranks of activations rounded to eight binary digits, within sixteen doublings below the largest, make a sort
    # unnecessary: 4,096 classes, each of which has the mean rank of what it holds, as ties have. Where 0 lies outside
    # of a neuron's activations, they count from the nearest on.
    n_neurons, n = activations.shape
    n_clusterings = len(within)
    correlation = np.zeros((n_neurons, n_clusterings), np.float32)
    counts = np.zeros(4096, np.int32)
    ranks = np.empty(4096, np.int32)  # twice the rank less the mean of all
    class_of = np.empty(n, np.uint16)
    rank_of = np.empty(n, np.int32)  # looked up at random: the fewer bytes the better
    squares = np.empty(n_clusterings)
    n_pairs = np.empty(n_clusterings)
    n_apart = np.full(n_clusterings, n)  # instances in no cluster of several
    for index in range(n_clusterings):
        of_clustering = sizes[starts[index] : starts[index + 1]]
        n_apart[index] -= of_clustering.sum()
        n_pairs[index] = (of_clustering.astype(np.float64) ** 2).sum() + n_apart[index]
    for neuron in range(n_neurons):
        values = activations[neuron]
        nearest = max(minimum[neuron], np.float32(0)) + min(maximum[neuron], np.float32(0))
        lowest, highest = minimum[neuron] - nearest, maximum[neuron] - nearest
        least = max((_bits(max(-lowest, highest)) >> 16) - 2047, 0)
        _classify(values, nearest, least, class_of)
        first, last = 2048 - max((_bits(-lowest) >> 16) - least, 0), 2048 + max((_bits(highest) >> 16) - least, 0)
        for instance in range(n):
            counts[class_of[instance]] += 1
        twice = -n
        for index in range(first, last + 1):
            ranks[index] = twice + counts[index]
            twice += 2 * counts[index]
        total = _weighted_squares(counts[first : last + 1], ranks[first : last + 1])
        counts[first : last + 1] = 0
        if total == 0.0:
            continue
        for instance in range(n):
            rank_of[instance] = ranks[class_of[instance]]
        variance = total / n
        member = 0
        for index in range(n_clusterings):
            squares[index] = between = total  # as if each instance were a cluster
            for cluster in range(starts[index], starts[index + 1]):
                rank_sum = 0.0
                own = 0.0
                for place in range(member, member + sizes[cluster]):
                    rank = float(rank_of[members[place]])
                    rank_sum += rank
                    own += rank * rank
                member += sizes[cluster]
                squares[index] += rank_sum**2 - own
                between += rank_sum**2 / sizes[cluster] - own
            n_clusters = starts[index + 1] - starts[index] + n_apart[index]
            n_excluded, excluded = float(n), total
            if within[index] >= 0:
                n_excluded, excluded = n_pairs[within[index]], squares[within[index]]
            inside = (squares[index] - excluded) / (n_pairs[index] - n_excluded) / variance
            outside = -squares[index] / max(float(n) ** 2 - n_pairs[index], 1.0) / variance
            estimate = (inside - outside) / (1.0 - outside)
            if within[index] < 0 and 1 < n_clusters < n:
                between /= n_clusters - 1
                inner = (total - between * (n_clusters - 1)) / (n - n_clusters)
                mean_size = (n - n_pairs[index] / n) / (n_clusters - 1)
                estimate = max(estimate, (between - inner) / (between + (mean_size - 1) * inner))
            correlation[neuron, index] = max(estimate, 0.0)
    return correlation


@njit(nogil=True, cache=True, error_model="numpy")
def _bits(value: np.float32) -> int:
    """Return the bits of a float32 but for its sign: they order as magnitudes do."""
    return int(np.float32(value).view(np.int32) & np.int32(0x7FFFFFFF))


@njit(nogil=True, cache=True, error_model="numpy")
def _classify(values: NDArray[np.float32], nearest: np.float32, least: int, class_of: NDArray[np.uint16]) -> None:
    """Fill the class of each value: 2,048 for what lies nearest, below for less and above for more."""
    for instance in range(len(values)):
        distance = np.float32(values[instance] - nearest)
        level = max((_bits(distance) >> 16) - least, 0)
        class_of[instance] = 2048 + (level if distance >= 0 else -level)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc"})
def _weighted_squares(counts: NDArray[np.int32], ranks: NDArray[np.int32]) -> float:
    """Return the sum of squared ranks, so many of each."""
    total = 0.0
    for index in range(len(counts)):
        total += counts[index] * float(ranks[index]) ** 2
    return total
