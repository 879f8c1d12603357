"""Labels by instance."""

import numpy as np
import pytest

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.labels import LabelIndex


def build(entries: list[tuple[int, int, int]], *, is_rest: list[bool], half: list[int]) -> LabelIndex:
    instance, function, is_positive = (np.array(column) for column in zip(*entries, strict=True))
    return LabelIndex.build(
        [("f", chr(97 + index)) for index in range(len(is_rest))],
        is_rest=np.array(is_rest),
        half=np.array(half, np.uint8),
        instance=instance,
        function=function.astype(np.int32),
        is_positive=is_positive.astype(np.uint8),
    )


def test_entries_in_any_order_are_laid_out_by_instance():
    index = build([(3, 0, 1), (0, 1, 0), (3, 1, 1), (1, 0, 1)], is_rest=[True, False], half=[0, 0, 1, 1])
    assert index.indptr.tolist() == [0, 1, 2, 2, 4]
    assert index.function.tolist() == [1, 0, 0, 1]
    assert index.is_positive.tolist() == [0, 1, 1, 1]
    assert index.n_instances == 4


def test_negative_entries_of_a_rest_function_are_left_out():
    index = build([(0, 0, 1), (1, 0, 0), (1, 1, 0), (2, 1, 1)], is_rest=[True, False], half=[0, 0, 0])
    assert index.function.tolist() == [0, 1, 1]


def test_counts_tell_rest_from_explicit_negatives_and_the_halves():
    entries = [(0, 0, 1), (3, 0, 1), (0, 1, 1), (1, 1, 0), (2, 1, 0)]
    index = build(entries, is_rest=[True, False], half=[0, 1, 1, 1, 0])
    assert index.counts().tolist() == [
        [[2, 2 + 3], [1, 1 + 1], [1, 1 + 2]],
        [[1, 1 + 2], [1, 1 + 0], [0, 0 + 2]],
    ]


@pytest.mark.parametrize("entry", [(2, 0, 1), (-1, 0, 1), (0, 1, 1), (0, -1, 1)])
def test_an_entry_beyond_the_instances_or_functions_is_refused(entry):
    with pytest.raises(IngestError, match="labels name instances or functions beyond 2 and 1"):
        build([(0, 0, 1), entry], is_rest=[True], half=[0, 1])
