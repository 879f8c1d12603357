"""Experts followed from checkpoint to checkpoint, to what each becomes at the last."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = ["follow", "overlap", "shared_with_track"]


def overlap(a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return how many neurons two experts share, for each pair of an expert of one partition and one of another.

    Parameters
    ----------
    a, b
        The expert of each neuron in either. [neurons]

    Returns
    -------
    counts
        Square, so that each expert can be matched: experts that one partition lacks share nothing. [experts, experts]
    """
    size = int(max(a.max(), b.max())) + 1
    return np.bincount(a.astype(np.int64) * size + b, minlength=size * size).reshape(size, size)


def follow(experts: Sequence[NDArray[np.integer]]) -> list[NDArray[np.int64]]:
    """Return the track of each expert: the index of the expert of the last checkpoint that it becomes.

    From one checkpoint to the next experts are matched one to one so that as many neurons as possible stay with
    theirs (the assignment problem: Kuhn 1955), and the links are followed backwards from the last.

    Parameters
    ----------
    experts
        The expert of each neuron of a layer at each checkpoint, in their order. [checkpoints][neurons]

    Returns
    -------
    tracks
        The track of each expert at each checkpoint. [checkpoints][experts]

    Examples
    --------
    >>> follow([np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1])])
    [array([1, 0]), array([0, 1])]
    """
    tracks = [np.arange(int(experts[-1].max()) + 1)]
    for earlier, later in zip(experts[-2::-1], experts[:0:-1], strict=True):
        counts = overlap(earlier, later)
        _, matched = linear_sum_assignment(counts, maximize=True)
        # Where the number of experts changes, an expert may be matched to one that is not there: a track of its own.
        later_tracks = np.append(tracks[-1], np.arange(len(tracks[-1]), len(counts)))
        tracks.append(later_tracks[matched])
    return tracks[::-1]


def shared_with_track(
    experts: NDArray[np.integer],
    tracks: NDArray[np.integer],
    later_experts: NDArray[np.integer],
    later_tracks: NDArray[np.integer],
) -> NDArray[np.int64]:
    """Return of each expert how many of its neurons are in the expert of its track at a later checkpoint.

    Parameters
    ----------
    experts, tracks
        The expert of each neuron, and the track of each expert. [neurons], [experts]
    later_experts, later_tracks
        The same at the later checkpoint.

    Returns
    -------
    n_shared
        [experts]
    """
    stays = tracks[experts] == later_tracks[later_experts]
    return np.bincount(experts[stays], minlength=len(tracks))
