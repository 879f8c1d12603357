"""Features of neurons are what a query yields of them, all neurons of a layer or none."""

import numpy as np
import pytest

from neuronlake.analysis.partitions.sources import features_sha256, read_features
from neuronlake.errors import AnalysisError, QueryError
from neuronlake.queries.database import Database


@pytest.fixture
def read(measured):
    """Return a function that reads features from a store with a run of two layers of 64 neurons."""
    with Database(measured("bert")) as database:
        yield lambda query: read_features(database, query, {("encoder", 0): 64, ("encoder", 1): 64})


def test_features_are_all_columns_but_the_keys_in_their_order(read):
    query = "select 7 as a, neuron, [neuron, 2.5] as b, layer, stack, neuron::decimal(5, 2) as c from neurons"
    vectors = read(f"{query} order by random()")
    assert list(vectors) == [("encoder", 0), ("encoder", 1)]
    for each in vectors.values():
        assert each.dtype == np.float64
        assert each.tolist() == [[7, neuron, 2.5, neuron] for neuron in range(64)]


def test_arrays_are_lists_of_numbers(read):
    vectors = read("select stack, layer, neuron, [neuron, 1]::integer[2] as x from neurons where layer = 1")
    assert {key: each.tolist() for key, each in vectors.items()} == {
        ("encoder", 1): [[neuron, 1] for neuron in range(64)]
    }


def test_the_digest_is_of_the_values_and_their_layers():
    one, other = np.zeros((3, 2)), np.array([[0, 0], [0, 0], [0, 1.0]])
    digests = {
        features_sha256(each)
        for each in ({("encoder", 0): one}, {("encoder", 1): one}, {("encoder", 0): other}, {("decoder", 0): one})
    }
    assert len(digests) == 4
    assert features_sha256({("encoder", 0): one}) == features_sha256({("encoder", 0): np.zeros((2, 3)).T})


@pytest.mark.parametrize(
    ("query", "kind", "message"),
    [
        ("select neuron, mean from neurons", AnalysisError, "no stack, layer among neuron, mean"),
        ("select stack, layer, neuron from neurons", AnalysisError, "yields no features beside stack, layer and"),
        ("select * from neurons where false", AnalysisError, "the query yields no rows"),
        ("select stack, layer, neuron, stack as x from neurons", AnalysisError, "column x is string, not num"),
        ("select stack, layer, neuron, [[1]] as x from neurons", AnalysisError, "column x is list"),
        (
            "select stack, layer, neuron, nullif(neuron, 3) as x from neurons",
            AnalysisError, "column x holds 2 NULL",
        ),
        (
            "select stack, layer, neuron, [1, nullif(neuron, 3)] as x from neurons",
            AnalysisError, "column x holds 2 NULL",
        ),
        (
            "select stack, layer, neuron, if(neuron = 3, 'nan', '1')::double as x from neurons",
            AnalysisError, "column x holds 2 NaN or infinite values",
        ),
        (
            "select stack, layer, neuron, range(1 + neuron % 2) as x from neurons",
            AnalysisError, "lists x have from 1 to 2 numbers",
        ),
        ("select stack, layer, neuron, []::int[] as x from neurons", AnalysisError, "lists x are empty"),
        (
            "select stack, layer, neuron, 1 as x from neurons where neuron not in (5, 9)",
            AnalysisError, "lacks 2 of the 64 neurons of encoder layer 0, neuron 5 the first",
        ),
        (
            "select stack, layer, neuron, 1 as x from neurons union all select 'encoder', 1, 7, 2",
            AnalysisError, "yields encoder layer 1, neuron 7 more than once",
        ),
        (
            "select stack, layer, neuron + 1 as neuron, 1 as x from neurons",
            AnalysisError, "yields encoder layer 0, neuron 64; the layer has 64 neurons",
        ),
        (
            "select stack, layer + 1 as layer, neuron, 1 as x from neurons",
            AnalysisError, "yields encoder layer 2, which the store does not know; it has encoder 0, encoder 1",
        ),
        (
            "select stack, nullif(layer, 1) as layer, neuron, 1 as x from neurons",
            AnalysisError, "column layer holds 64 NULL",
        ),
        ("select stack, layer, 0.5 as neuron, 1 as x from neurons", AnalysisError, "column neuron is decimal"),
        ("select stack, layer, neuron, none as x from neurons", QueryError, "none"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_clustered_are_refused_in_one_line(query, kind, message, read):
    with pytest.raises(kind, match=message) as error:
        read(query)
    assert "\n" not in str(error.value)
