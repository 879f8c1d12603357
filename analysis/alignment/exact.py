"""The exact tail of counts of neurons dealt to experts within strata, compiled by numba.

In each stratum the listed neurons of an expert are hypergeometric, and strata are dealt independently: their sum
has the convolution of the strata's distributions. With one stratum it is the hypergeometric itself.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["stratified_tail"]


@njit(nogil=True, cache=True)
def stratified_tail(
    n_neurons: NDArray[np.int64],
    n_listed: NDArray[np.int64],
    n_members: NDArray[np.int64],
    observed: NDArray[np.int32],
) -> NDArray[np.float64]:
    """Return the probability that an expert holds at least as many neurons of a list as observed.

    Parameters
    ----------
    n_neurons
        Neurons of each stratum. [strata]
    n_listed
        Neurons of each stratum on each list. [strata, lists]
    n_members
        Neurons of each stratum in each expert. [strata, experts]
    observed
        Neurons of each list that each expert holds. [experts, lists]
    """
    tails = np.ones(observed.shape)
    n_strata = len(n_neurons)
    for expert, found in np.ndindex(observed.shape):
        if observed[expert, found] == 0:
            continue
        distribution = np.zeros(n_listed[:, found].sum() + 1)
        distribution[0] = 1.0
        reach = 0
        for stratum in range(n_strata):
            size, listed, members = n_neurons[stratum], n_listed[stratum, found], n_members[stratum, expert]
            least, most = max(0, listed + members - size), min(listed, members)
            if most == 0:
                continue
            shares = np.empty(most - least + 1)
            shares[0] = math.exp(
                _log_binomial(listed, least)
                + _log_binomial(size - listed, members - least)
                - _log_binomial(size, members)
            )
            for count in range(least, most):
                odds = (listed - count) * (members - count) / ((count + 1) * (size - listed - members + count + 1))
                shares[count + 1 - least] = shares[count - least] * odds
            # From the top down, so that what is still to be read is not yet overwritten.
            for total in range(reach + most, -1, -1):
                mass = 0.0
                for count in range(max(least, total - reach), min(most, total) + 1):
                    mass += distribution[total - count] * shares[count - least]
                distribution[total] = mass
            reach += most
        tails[expert, found] = min(1.0, distribution[observed[expert, found] :].sum())
    return tails


@njit(nogil=True, cache=True)
def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)
