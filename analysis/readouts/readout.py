"""What every readout has and does, and how its values become one number for each function."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ...schema.vocabulary import ReadoutKind


class Readout(Protocol):
    """A measure of what a model can do, fitted already where there is something to fit."""

    kind: ReadoutKind
    metric: str  # unit of its values
    is_loss: bool = False  # whether higher values are worse
    chance: NDArray[np.float64] | None = None  # the readout of guesses; None if there is no such level [functions]
    model: PreTrainedModel  # the module that is run, in which neurons are ablated
    functions: tuple[tuple[str, str], ...]  # ``(family, function)`` of each function read out
    instance_id: NDArray[np.int64]  # the instances read out [instances]
    text: NDArray[np.int64]  # the text of each instance [instances]
    # 1 for positives, 0 for negatives, -1 for instances that do not count for the function [functions, instances]
    strata: NDArray[np.int8]
    n_fitted_texts: int | None = None  # number of texts the readout was fitted on; None if there was nothing to fit
    sha256: str  # digest of everything, beside the weights of the body, that decides the values

    def read(self, advance: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Run the model in its present state and return a value for each instance.

        `advance` is called with the number of texts of each batch when it is done. The values are [functions,
        instances], or [1, instances] where the value of an instance is the same for all functions.
        """


def summarize(values: NDArray[np.float32], strata: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return each function's readout: the mean over its strata of the mean value within the stratum. [functions].

    Values are [functions or 1, instances], as `Readout.read` returns them, and strata those of the `Readout`.
    """
    values = np.broadcast_to(values, strata.shape).astype(np.float64)
    means = [
        np.divide((values * inside).sum(1), inside.sum(1), out=np.full(len(strata), np.nan), where=inside.any(1))
        for inside in (strata == 0, strata == 1)
    ]
    readouts: NDArray[np.float64] = np.nanmean(np.stack(means), axis=0)
    return readouts
