"""Draws of average precision under permuted labels, compiled by numba.

Under permutation, the average precision of a label with P positives and Q negatives among N = P + Q ranked instances
depends only on which of the `n_above` instances above the bottom tie group are positive. Ranks 1 to `n_above` are cut
into blocks, and a draw is the number of positives in each block; sums over the positives within a block are taken at
their expectation given that number.

To see events of one in a million among thousands of draws, positives are drawn from a mixture of distributions: the
null, and others tilted towards a high average precision of the label or of its complement. Each draw is weighted by the
ratio of its probability under permutation to that under the mixture (importance sampling with a defensive mixture:
Hesterberg, Technometrics 37, 1995; Owen and Zhou, JASA 95, 2000), so that weighted shares are unbiased.
In every distribution the blocks are independent binomials, but for one, which takes the positives that remain.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# The tilted distributions: towards which statistic (0 the label's, 1 the complement's, 2 the logarithm of a rank), and
# what the tilt costs, in nats: they centre on events of about exp(-rate).
_TILTS = ((0, 1.6), (1, 1.6), (0, 5.0), (1, 5.0), (0, 11.0), (1, 11.0), (2, 2.5), (2, 6.0))


@njit(nogil=True, cache=True, error_model="numpy")
def draw_nulls(
    edges: Integers,  # last rank of each block, rising; that of the last is N, and one is `n_above` [blocks]
    taker: int,  # index of the block that takes the positives that the others leave: a large one
    n_above: int,
    n_positive: int,
    n_negative: int,
    uniforms: NDArray[np.float32],  # random numbers, uniform on [0, 1) [blocks, draws]
) -> Floats:
    """Return draws of the excess of a label, those of its complement, and the weights of the draws [3, draws].

    The excess is ``P * (AP - P / N)``: average precision above chance, 0 where no positive is above the tie group.
    """
    n_blocks, n_draws = uniforms.shape
    n = n_positive + n_negative
    share = n_positive / n
    sizes = np.diff(np.append(0, edges))
    inverse, inner, logarithm = _ranks(edges, n_above)
    slopes = np.empty((3, n_blocks))
    # What one more positive in the block adds to the excess of the label and, a negative less, of the complement.
    slopes[0] = inverse / sizes + share * logarithm
    slopes[1] = -(inverse / sizes + (1.0 - share) * logarithm)
    # The few positives of a rare function score by the first one's rank, whatever it is: even in its logarithm.
    slopes[2] = logarithm
    shares = np.empty((1 + len(_TILTS), n_blocks))
    shares[0] = share
    for component, (statistic, rate) in enumerate(_TILTS):
        _tilt(sizes, slopes[statistic], n_positive, rate, shares[1 + component])
    portions = np.full(len(shares), 0.5 / (len(shares) - 1))  # of the draws, by component
    portions[0] = 0.5  # from the null itself, which bounds the weights
    counts = _draw_counts(sizes, taker, n_positive, shares, portions, uniforms)
    draws = np.zeros((3, n_draws))
    draws[2] = _weigh(sizes, taker, n_positive, shares, portions, counts)
    above = np.zeros(n_draws, dtype=np.int64)
    start = 0
    for block in range(n_blocks):
        if edges[block] > n_above:
            break
        size = sizes[block]
        pairs = inner[block] / (size - 1) if size > 1 else 0.0
        for draw in range(n_draws):
            count = counts[block, draw]
            negatives = size - count
            label = (above[draw] + 1) * inverse[block] + (count - 1) * pairs
            complement = (start - above[draw] + 1) * inverse[block] + (negatives - 1) * pairs
            draws[0, draw] += count * (label / size - share)
            draws[1, draw] += negatives * (complement / size - (1.0 - share))
            above[draw] += count
        start = edges[block]
    return draws


@njit(nogil=True, cache=True, error_model="numpy")
def _ranks(edges: Integers, n_above: int) -> tuple[Floats, Floats, Floats]:
    """Return by block: sums over its ranks r of 1 / r and of (its ranks before r) / r, the mean of log n_above / r."""
    inverse = np.zeros(len(edges))
    inner = np.zeros(len(edges))
    logarithm = np.zeros(len(edges))
    start = 0
    for block in range(len(edges)):
        if edges[block] > n_above:
            break
        for rank in range(start + 1, edges[block] + 1):
            inverse[block] += 1.0 / rank
            inner[block] += (rank - start - 1) / rank
            logarithm[block] += math.log(n_above / rank) / (edges[block] - start)
        start = edges[block]
    return inverse, inner, logarithm


@njit(nogil=True, cache=True, error_model="numpy")
def _draw_counts(
    sizes: Integers, taker: int, n_positive: int, shares: Floats, portions: Floats, uniforms: NDArray[np.float32]
) -> NDArray[np.int32]:
    """Return the positives of each block in each draw, component by component of the mixture: [blocks, draws]."""
    n_blocks, n_draws = uniforms.shape
    counts = np.empty((n_blocks, n_draws), dtype=np.int32)
    counts[taker] = n_positive
    stops = np.rint(np.cumsum(portions) * n_draws).astype(np.int64)
    start = 0
    for component in range(len(shares)):
        for block in range(n_blocks):
            if block == taker:
                continue
            lowest, cumulative, guide = _binomial(sizes[block], shares[component, block])
            for draw in range(start, stops[component]):
                uniform = uniforms[block, draw]
                place = guide[int(uniform * len(guide))]
                while uniform >= cumulative[place]:
                    place += 1
                counts[block, draw] = lowest + place
                counts[taker, draw] -= lowest + place
        start = stops[component]
    return counts


@njit(nogil=True, cache=True, error_model="numpy")
def _weigh(
    sizes: Integers, taker: int, n_positive: int, shares: Floats, portions: Floats, counts: NDArray[np.int32]
) -> Floats:
    """Return the ratio of each draw's probability under permutation to that under the mixture."""
    # The ways to choose a block's positives are the same in both, and cancel, but for the taker's.
    n_components, n_draws = len(shares), counts.shape[1]
    exponents = np.empty((n_components, n_draws))
    weights = np.zeros(n_draws)
    for component in range(n_components):
        constant = math.log(portions[component])
        exponents[component] = 0.0
        for block in range(len(sizes)):
            if block != taker:
                share = shares[component, block]
                constant += sizes[block] * math.log1p(-share)
                odds = math.log(share) - math.log1p(-share)
                for draw in range(n_draws):
                    exponents[component, draw] += odds * counts[block, draw]
        exponents[component] += constant
    log_ways = _log_binomial(sizes.sum(), n_positive)
    for draw in range(n_draws):
        left = counts[taker, draw]
        if 0 <= left <= sizes[taker]:
            ways = _log_binomial(sizes[taker], left) - log_ways
            mixture = 0.0
            for component in range(n_components):
                mixture += math.exp(min(exponents[component, draw] - ways, 700.0))
            weights[draw] = 1.0 / mixture
    return weights


@njit(nogil=True, cache=True, error_model="numpy")
def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)


@njit(nogil=True, cache=True, error_model="numpy")
def _tilt(sizes: Integers, slopes: Floats, n_positive: int, rate: float, shares: Floats) -> None:
    """Fill each block's share of positives, log odds rising with the slopes at a Kullback-Leibler cost of `rate`."""
    # Where no event is as rare, the tilt is the largest that is tried.
    n = sizes.sum()
    share = n_positive / n
    low, high = 1e-5, 1e5
    for _ in range(24):
        tilt = math.sqrt(low * high)
        _shift(sizes, slopes, n_positive, tilt, shares)
        cost = 0.0
        for block in range(len(sizes)):
            value = shares[block]
            cost += sizes[block] * (
                value * math.log(value / share) + (1.0 - value) * math.log((1.0 - value) / (1.0 - share))
            )
        if cost < rate:
            low = tilt
        else:
            high = tilt


@njit(nogil=True, cache=True, error_model="numpy")
def _shift(sizes: Integers, slopes: Floats, n_positive: int, tilt: float, shares: Floats) -> None:
    """Fill the shares for a tilt, shifted so that as many positives are expected as there are."""
    low, high = -50.0 - tilt * slopes.max(), 50.0 - tilt * slopes.min()
    shift = math.log(n_positive / (sizes.sum() - n_positive)) - tilt * (sizes * slopes).sum() / sizes.sum()
    for _ in range(60):
        expected = 0.0
        derivative = 0.0
        for block in range(len(sizes)):
            value = 1.0 / (1.0 + math.exp(-(shift + tilt * slopes[block])))
            value = min(max(value, 1e-12), 1.0 - 1e-12)
            shares[block] = value
            expected += sizes[block] * value
            derivative += sizes[block] * value * (1.0 - value)
        if abs(expected - n_positive) < 1e-6 * n_positive:
            break
        if expected < n_positive:
            low = shift
        else:
            high = shift
        shift += (n_positive - expected) / derivative
        if not low < shift < high:
            shift = 0.5 * (low + high)


@njit(nogil=True, cache=True, error_model="numpy")
def _binomial(size: int, share: float) -> tuple[int, Floats, Integers]:
    """Return a cumulative binomial distribution: its lowest count, the distribution, and a guide into it.

    Counts are within ten standard deviations, plus twenty, of the mean. The guide says where to begin the search for a
    uniform number u: at ``guide[int(u * len(guide))]``.
    """
    reach = 20.0 + 10.0 * math.sqrt(size * share * (1.0 - share))
    lowest = max(0, int(size * share - reach))
    highest = min(size, int(size * share + reach))
    cumulative = np.empty(highest - lowest + 1)
    mode = min(int(size * share), highest)
    odds = share / (1.0 - share)
    cumulative[mode - lowest] = 1.0
    for count in range(mode, highest):
        cumulative[count + 1 - lowest] = cumulative[count - lowest] * odds * (size - count) / (count + 1)
    for count in range(mode, lowest, -1):
        cumulative[count - 1 - lowest] = cumulative[count - lowest] / odds * count / (size - count + 1)
    cumulative = np.cumsum(cumulative)
    cumulative /= cumulative[-1]
    guide = np.empty(len(cumulative), dtype=np.int64)
    place = 0
    for step in range(len(guide)):
        while cumulative[place] * len(guide) <= step:
            place += 1
        guide[step] = place
    return lowest, cumulative, guide
