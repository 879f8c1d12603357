"""Readouts: what a model can do, instance by instance, perturbed or not."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ...schema.vocabulary import ReadoutKind

__all__ = ["Readout", "summarize"]


class Readout(Protocol):
    """A way to read out functions, ready: what it had to learn, it has learnt from the model as it is.

    Parameters
    ----------
    kind
        Its name.
    metric
        Unit of what it says of a function.
    is_loss
        Whether more is worse.
    model
        The module that runs, to be perturbed.
    functions
        ``(family, function)`` of each function read out.
    instance_id, text
        The instances read out, and the text of each. [instances] each
    strata
        What is meant over: a function's readout is the mean over its strata of the mean of its values within a
        stratum. 1 positives, 0 negatives, -1: the instance is not of the function. [functions, instances]
    n_fitted_texts
        Texts it was fitted on, None if nothing had to be learnt.
    """

    kind: ReadoutKind
    metric: str
    is_loss: bool
    model: PreTrainedModel
    functions: tuple[tuple[str, str], ...]
    instance_id: NDArray[np.int64]
    text: NDArray[np.int64]
    strata: NDArray[np.int8]
    n_fitted_texts: int | None

    def sha256(self) -> str:
        """Return the digest of all that decides what it reads from given states of the model."""

    def read(self, advance: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Run the model as it now is and return what is read of each instance.

        Parameters
        ----------
        advance
            Told the number of texts after each batch.

        Returns
        -------
        values
            [functions, instances], or [1, instances] where all functions read the same of an instance.
        """


def summarize(values: NDArray[np.float32], strata: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return the readout of each function: the mean over its strata of the mean within each.

    Parameters
    ----------
    values
        [functions, instances] or [1, instances]
    strata
        As in `Readout`. [functions, instances]

    Returns
    -------
    readouts
        [functions]
    """
    values = np.broadcast_to(values, strata.shape).astype(np.float64)
    means = [
        np.divide((values * inside).sum(1), inside.sum(1), out=np.full(len(strata), np.nan), where=inside.any(1))
        for inside in (strata == 0, strata == 1)
    ]
    readouts: NDArray[np.float64] = np.nanmean(np.stack(means), axis=0)
    return readouts
