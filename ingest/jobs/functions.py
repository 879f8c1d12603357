"""Which functions of a corpus are measured: those that have instances enough of both classes in both halves."""

import numpy as np

from ...errors import IngestError
from ..activations.tokens import TokenizedCorpus
from ..corpora.labels import LabelIndex
from ..corpora.stored import StoredCorpus
from .settings import Settings

_FEW = 5  # of a class in a half: fewer are told


def choose_functions(
    corpus: StoredCorpus, tokens: TokenizedCorpus, settings: Settings
) -> tuple[LabelIndex, str | None]:
    """Return the labels of the functions to measure, and a notice: which are left out, or else have few instances.

    Raises IngestError if no function has `min_instances`, or if some lack a class where none is asked for.
    """
    least = settings.min_instances
    labels = corpus.label_index(tokens.instance_id, tokens.text, settings.halves, may_lack=least > 0)
    positive, evaluated = np.moveaxis(labels.counts()[:, 1:], 2, 0)  # [functions, halves]
    counts = np.stack([positive, evaluated - positive], axis=2)  # [functions, halves, classes]
    fewest = counts.min(axis=(1, 2))
    if fewest.max() < least:
        raise IngestError(
            f"corpus {corpus.name}: no function has {least} positives and negatives in each half, as min_instances "
            f"asks; the most that one has is {fewest.max()} ({'/'.join(labels.functions[fewest.argmax()])})"
        )
    is_few = fewest < (least or _FEW)
    if not is_few.any():
        return labels, None
    shown = [
        f"{'/'.join(labels.functions[place])} ({positive_a}, {negative_a}; {positive_b}, {negative_b})"
        for place, ((positive_a, negative_a), (positive_b, negative_b)) in zip(
            np.flatnonzero(is_few)[:10].tolist(), counts[is_few][:10].tolist(), strict=True
        )
    ]
    more = f" and {is_few.sum() - 10:,} more" if is_few.sum() > 10 else ""
    what = "are left out, for they have" if least else "have"
    remedy = "" if least else f"; --min-instances {_FEW} leaves them out"
    notice = (
        f"{is_few.sum():,} of {len(is_few):,} functions {what} fewer than {least or _FEW} positives or negatives in a "
        f"half (positives, negatives of half a; of half b): {', '.join(shown)}{more}{remedy}"
    )
    return (labels.only(~is_few) if least else labels), notice
