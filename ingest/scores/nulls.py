"""Permutation p-values of average precision: how often permuted labels score as high.

Under permutation, the average precision of a label with P positives and Q negatives depends on the activations only
through their ties. One tie group matters: the instances where the neuron is at rest, as where a ReLU is 0 or no token
was routed to the expert; those below rest are counted as at rest. So one table for P, Q and the number of instances
above rest (`n_above`) serves every neuron.

Tables are made for a grid of `n_above`, each when it is first needed, and read by interpolation. Each is seeded by P, Q
and `n_above`, so p-values do not depend on what was scored before, nor on blocks and threads.
"""

import functools
import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtri

from .null_draws import Floats, Integers, draw_nulls

SMALLEST_P = 1e-6
# Without a tie group one table serves all neurons of a function: it may cost more.
_N_DRAWS = 5000
_N_DRAWS_UNTIED = 10000
# Ranks up to this one are blocks of their own; beyond, blocks are a ratio apart, as are the counts that have a table.
_N_SINGLE = 12
_BLOCK_RATIO = 1.3
_LEVEL_RATIO = 1.6
# Logarithms of the tail probabilities that a table is read at.
_LOG_TAILS = np.log(np.concatenate([np.linspace(0.96, 0.12, 22), np.geomspace(0.1, 1e-8, 71)[1:]]))
# The factor by which an excess beyond the tables is made smaller until they hold it.
_CLOSER = 0.7
# Sums taken in another order differ by less.
_TOLERANCE = 1e-8
# Two tail probabilities that are the same, such as those of the first rank and of the last, are estimated with errors:
# what is within this (of the logarithm) counts as the same, which errs upwards.
_SAME = 0.1

# Which two tables each neuron reads [2, neurons]; of each table the `n_above`, the statistics and the log tails.
_Tables = tuple[Integers, Integers, Floats, Floats]


def p_values(excess: Floats, n_above: Integers, n_positive: int, n_negative: int) -> Floats:
    """Return each neuron's p-value: how often permuted labels, or their complement, score as improbably high.

    `excess` [neurons, 2] is ``P * (AP - P / N)`` of the label and of its complement, with all instances at rest or
    below it tied; `n_above` [neurons] are the function's instances above rest. Let p+ be the probability under
    permutation that the label has at least this excess, and p- that its complement has. The p-value is the probability
    that min(p+, p-) is no larger than it is here; it is never below `SMALLEST_P`.
    """
    return _look_up(excess, n_above, _tables(n_above, n_positive, n_negative), n_positive, n_negative, False)[0]


def deviates(excess: Floats, n_above: Integers, n_positive: int, n_negative: int) -> Floats:
    """Return `p_values` as two-sided normal deviates, which beyond `SMALLEST_P` grow as the excess does."""
    tables = _tables(n_above, n_positive, n_negative)
    p, scale = _look_up(excess, n_above, tables, n_positive, n_negative, True)
    # One that is beyond the tables is at least as far as where it was last beyond them.
    least = np.where(scale < 1, -ndtri(SMALLEST_P / 2) * _CLOSER / scale, 0)
    deviate: Floats = np.maximum(least, -ndtri(p / 2) / scale)
    return deviate


def _tables(n_above: Integers, n_positive: int, n_negative: int) -> _Tables:
    """Return the tables that neurons need."""
    levels = _levels(n_positive + n_negative)
    pair, is_needed = _between(n_above, levels)
    statistic, log_tail = np.stack(
        [_table(n_positive, n_negative, each) for each in levels[is_needed].tolist()], axis=1
    )
    return (np.cumsum(is_needed) - 1)[pair], levels[is_needed], statistic, log_tail


@njit(nogil=True, cache=True, error_model="numpy")
def _between(n_above: Integers, levels: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the two levels that each neuron lies between [2, neurons], and whether each level is needed."""
    pair = np.empty((2, len(n_above)), np.int64)
    is_needed = np.zeros(len(levels), np.bool_)
    for neuron in range(len(n_above)):
        above = max(n_above[neuron], 1)
        lower = np.searchsorted(levels, above, side="right") - 1
        upper = min(lower + 1, len(levels) - 1)
        way = (above - levels[lower]) / max(levels[upper] - levels[lower], 1)
        # A hundredth of the way is not worth a table.
        pair[0, neuron] = upper if way > 0.99 else lower
        pair[1, neuron] = lower if way < 0.01 else upper
        is_needed[pair[0, neuron]] = is_needed[pair[1, neuron]] = True
    return pair, is_needed


@njit(nogil=True, cache=True, error_model="numpy")
def _look_up(
    excess: Floats, n_above: Integers, tables: _Tables, n_positive: int, n_negative: int, is_made_smaller: bool
) -> tuple[Floats, Floats]:
    """Return the p-value of each neuron, and by how much its excess was made smaller until the tables held it."""
    p, scale = np.ones(len(n_above)), np.ones(len(n_above))
    for neuron in range(len(n_above)):
        while n_above[neuron] > 0:
            smaller = scale[neuron] * excess[neuron, 0] - _TOLERANCE, scale[neuron] * excess[neuron, 1] - _TOLERANCE
            p[neuron] = _p_value(smaller, n_above[neuron], neuron, tables, n_positive, n_negative)
            if p[neuron] > SMALLEST_P or not is_made_smaller:
                break
            scale[neuron] *= _CLOSER
    return p, scale


@njit(nogil=True, cache=True, error_model="numpy")
def _p_value(
    excess: tuple[float, float], n_above: int, neuron: int, tables: _Tables, n_positive: int, n_negative: int
) -> float:
    """Return the p-value of a neuron's excess of the label and the complement, interpolated between two tables."""
    # The variance v of an excess grows as n_above * (2 N - n_above). The logarithm of a tail probability varies with it
    # in two ways. For the rarer class, the tail is made by the first ranks whatever is below, or is normal and varies
    # as 1 / v. For the other class, the excess is highest where none of the rarer class is above rest, about as v; the
    # logarithm of the probability of a share of it (a lower tail of a count) varies as v.
    rarer = 0 if n_positive <= n_negative else 1
    twice = 2 * (n_positive + n_negative)
    variance = float(n_above) * (twice - n_above)
    which, levels, statistic, log_tail = tables
    lower, upper = which[0, neuron], which[1, neuron]
    low, high = float(levels[lower]) * (twice - levels[lower]), float(levels[upper]) * (twice - levels[upper])
    way = (variance - low) / (high - low) if high > low else 0.0
    least = np.inf
    part = 0.0  # of the upper table, on the side that is less probable
    smaller_low = smaller_high = np.inf
    for side in range(2):
        to_low, to_high = (1.0, 1.0) if side == rarer else (low / variance, high / variance)
        tail_low = _interpolate(excess[side] * to_low, statistic[lower, side], log_tail[lower, side])
        tail_high = tail_low
        if upper != lower:
            tail_high = _interpolate(excess[side] * to_high, statistic[upper, side], log_tail[upper, side])
        of_upper = way * high / variance if side == rarer else way
        mixed = (1.0 - of_upper) * tail_low + of_upper * tail_high
        if mixed < least:
            least, part = mixed, of_upper
        smaller_low, smaller_high = min(smaller_low, tail_low), min(smaller_high, tail_high)
    either = _either(smaller_low, statistic[lower, 2], log_tail[lower, 2])
    total = (1.0 - part) * either
    if upper != lower:
        either = _either(smaller_high, statistic[upper, 2], log_tail[upper, 2])
    return min(1.0, max(SMALLEST_P, math.exp(total + part * either)))


@njit(nogil=True, cache=True, error_model="numpy")
def _either(smaller: float, statistic: Floats, log_tail: Floats) -> float:
    """Return the log probability that the label or its complement has a log tail as small: of one at least, of both."""
    return min(max(_interpolate(-smaller, statistic, log_tail), smaller), smaller + math.log(2.0))


@njit(nogil=True, cache=True, error_model="numpy")
def _interpolate(value: float, rising: Floats, heights: Floats) -> float:
    """Return the height at a value; beyond the ends, the height of the end."""
    index = np.searchsorted(rising, value, side="right")
    if index == 0:
        return float(heights[0])
    # Rows are filled up with infinities, of the last height.
    if index == len(rising) or rising[index] == np.inf:
        return float(heights[index - 1])
    part = (value - rising[index - 1]) / (rising[index] - rising[index - 1])
    return float(heights[index - 1] + part * (heights[index] - heights[index - 1]))


@functools.lru_cache(maxsize=64)
def _levels(n: int) -> Integers:
    """Return the values of `n_above` that have a table, for N instances, rising."""
    levels = [n]
    while levels[-1] > 1:
        levels.append(levels[-1] - 1 if levels[-1] <= _N_SINGLE else int(levels[-1] / _LEVEL_RATIO))
    return np.array(levels[::-1])


def _blocks(n: int, n_above: int) -> tuple[Integers, int]:
    """Return the last rank of each block, and the one that takes the rest: the tie group, or a middle one."""
    if n_above < n:
        return np.array([*_steps(n_above), n]), len(_steps(n_above))
    top, bottom = _steps(max(1, n // 2)), _steps(n // 3)
    return np.array([*top, *(n - step for step in bottom[::-1]), n]), len(top)


def _steps(end: int) -> list[int]:
    """Return ranks up to `end`: single ones, then a ratio apart."""
    steps = list(range(1, min(end, _N_SINGLE) + 1))
    while steps and steps[-1] < end:
        steps.append(min(end, int(steps[-1] * _BLOCK_RATIO)))
    return steps


@functools.lru_cache(maxsize=1 << 14)
def _table(n_positive: int, n_negative: int, n_above: int) -> Floats:
    """Return the distributions under permutation that p-values are read from, [2, 3, knots].

    First the statistics, rising, then infinite: the excess of the label, that of the complement, and the negative
    logarithm of the smaller of their tail probabilities. Second the logarithm of the probability of at least as much.
    """
    edges, taker = _blocks(n_positive + n_negative, n_above)
    generator = np.random.default_rng([n_positive, n_negative, n_above])
    n_draws = _N_DRAWS if n_above < n_positive + n_negative else _N_DRAWS_UNTIED
    uniforms = generator.random((len(edges), n_draws), dtype=np.float32)
    draws = draw_nulls(edges, taker, n_above, n_positive, n_negative, uniforms)
    # Where the other blocks took too many positives, or too few, there is no such arrangement.
    label, complement, weight = draws[:, draws[2] > 0]
    weight /= weight.sum()
    statistic = np.full((3, 2 * len(_LOG_TAILS) + 1), np.inf)
    log_tail = np.full(statistic.shape, -np.inf)
    label_tail = _tabulate(label, weight, statistic[0], log_tail[0])
    complement_tail = _tabulate(complement, weight, statistic[1], log_tail[1])
    _tabulate(-np.minimum(label_tail, complement_tail), weight, statistic[2], log_tail[2], tolerance=_SAME)
    return np.stack([statistic, log_tail])


def _tabulate(values: Floats, weight: Floats, statistic: Floats, log_tail: Floats, *, tolerance: float = 0.0) -> Floats:
    """Fill one row of a table from draws; return the log probability of at least each draw's value, to a tolerance."""
    # Equal values differ by rounding, for they are summed in another order.
    values = np.round(values, 9)
    order = np.argsort(values)
    rising = values[order]
    is_first = np.append(True, rising[1:] > rising[:-1])
    tail = np.cumsum(weight[order][::-1])[::-1][is_first]
    rising = rising[is_first]
    tail = tail[np.searchsorted(rising, rising - tolerance)]
    falling = np.log(np.clip(tail, math.exp(_LOG_TAILS[-1]), 1.0))
    # The first value at or below each tail probability and the one before it, so that what is interpolated has no
    # step in it: few positives make few values, and each has a great probability.
    first = np.searchsorted(-falling, -_LOG_TAILS)
    knots = np.unique(np.concatenate([[0], first - 1, first]))
    knots = knots[(knots >= 0) & (knots < len(falling))]
    statistic[: len(knots)] = rising[knots]
    log_tail[: len(knots)] = falling[knots]
    log_tail_of_draw = np.empty(len(values))
    log_tail_of_draw[order] = falling[np.cumsum(is_first) - 1]
    return log_tail_of_draw
