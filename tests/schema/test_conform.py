"""Rows made to conform: columns added, ordered and cast."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from neuronlake.errors import SchemaError
from neuronlake.schema.conformance import arrow_schema, check, conform
from neuronlake.schema.tables import table

KEYS = {"partition_id": "p", "stack": "encoder", "layer": 0}
EXPERTS = [KEYS | {"neuron": neuron, "expert": neuron % 2} for neuron in range(3)]


@pytest.mark.parametrize(
    "data",
    [
        [{"neuron": 0, "expert": 0}, {"expert": 1, "neuron": 1}, {"neuron": 2, "expert": 0}],
        {"expert": np.array([0, 1, 0]), "neuron": range(3)},
        pl.DataFrame({"expert": [0, 1, 0], "neuron": [0, 1, 2]}),
        pa.table({"neuron": [0, 1, 2], "expert": [0, 1, 0]}),
    ],
    ids=["rows", "columns", "polars", "arrow"],
)
def test_rows_of_any_kind_get_their_constants_order_and_types(data):
    rows = conform("experts", data, **KEYS)
    check(table("experts"), rows)
    assert rows.to_pylist() == EXPERTS


def test_a_column_that_may_be_null_is_null_where_it_is_missing_and_where_it_is_none():
    rows = conform("texts", [{"text_id": 0, "target": "t"}, {"text_id": 1}], corpus="c", text="x", half="a")
    assert rows["target"].to_pylist() == ["t", None]
    assert rows["split_group"].to_pylist() == [None, None]
    assert conform("texts", {"text_id": [0, 1]}, corpus="c", text="x", half="a", target=None)["target"].null_count == 2


def test_no_rows_are_no_rows():
    assert conform("experts", [], **KEYS, neuron=0, expert=0).num_rows == 0


def test_a_constant_replaces_the_column_of_its_name():
    assert conform("experts", EXPERTS, layer=7)["layer"].to_pylist() == [7, 7, 7]


def test_dictionary_encoded_strings_and_string_constants_stay_small():
    stack = pa.array(["encoder"] * 3).dictionary_encode()
    rows = conform("experts", {"neuron": range(3), "stack": stack}, partition_id="p", layer=0, expert=0)
    assert [pa.types.is_dictionary(rows.schema.field(name).type) for name in ("partition_id", "stack")] == [True, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": 1.0}, r"^table experts: columns missing \[\], not declared \['score'\]; declared: partition_id, "),
        ({"expert": None}, r"^table experts, column expert: NULL at row 0, declared not null$"),
        ({"expert": "x"}, r"^table experts, column expert: "),
        ({"neuron": ["0", "1", "2"]}, r"^table experts, column neuron: type string, declared int32$"),
        ({"neuron": [True, False, True]}, r"^table experts, column neuron: type bool, declared int32$"),
        ({"stack": [1, 2, 3]}, r"^table experts, column stack: type int64, declared string$"),
        ({"neuron": [0, 1]}, r"^table experts, column \w+: \d values in \d rows$"),
        ({"layer": 2**15}, r"^table experts, column layer: .*32768"),
        ({"neuron": [0, 1.5, 2]}, r"^table experts, column neuron: .*1\.5"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_name_of_its_column(change, message):
    columns = {name: [row[name] for row in EXPERTS] for name in EXPERTS[0]}
    changed = {name: values if isinstance(values, list) else [values] * 3 for name, values in change.items()}
    with pytest.raises(SchemaError, match=message):
        check(table("experts"), conform("experts", columns | changed))


def test_a_column_that_is_missing_and_not_nullable_is_named():
    with pytest.raises(SchemaError, match=r"^table experts: columns missing \['expert'\], not declared \[\]; "):
        conform("experts", {"neuron": [0]}, **KEYS)


def test_the_types_are_those_declared():
    rows = conform("texts", {"text_id": [0]}, corpus="c", text="x", half="a")
    decoded = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in rows.schema]
    assert decoded == arrow_schema(table("texts")).types
