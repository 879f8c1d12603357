"""Labels laid out for scoring, as tests and benchmarks write them."""

import numpy as np

from neuronlake.ingest.corpora.labels import LabelIndex


def label_index(table: np.ndarray, is_rest: bool | list[bool] = True, half: np.ndarray | None = None) -> LabelIndex:
    """Lay out labels given as [functions, instances] of 1, 0 and -1 (not evaluated): the inverse of `LabelIndex.dense`.

    Unlabelled instances are negatives where `is_rest`. Every other instance is in half b, unless `half` says.
    """
    rest = np.broadcast_to(is_rest, len(table))
    function, instance = np.nonzero(table >= np.where(rest, 1, 0)[:, None])
    return LabelIndex.build(
        [("f", str(index)) for index in range(len(table))],
        is_rest=rest,
        half=(np.arange(table.shape[1]) % 2 if half is None else half).astype(np.uint8),
        instance=instance,
        function=function.astype(np.int32),
        is_positive=table[function, instance].astype(np.uint8),
    )
