"""What is refused before it is written, and how it is named."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronlake.errors import SchemaError
from neuronlake.schema.conformance import arrow_schema, check
from neuronlake.schema.tables import TABLES, table

EXPERTS = table("experts")
NEURONS = table("neurons")


def rows_of_experts(keys: list[tuple[str, str, int, int]]) -> pa.Table:
    names = ("partition_id", "stack", "layer", "neuron")
    rows = [dict(zip(names, key, strict=True)) | {"expert": 0} for key in keys]
    return pa.Table.from_pylist(rows, schema=arrow_schema(EXPERTS))


@pytest.mark.parametrize("name", TABLES)
def test_no_rows_of_the_declared_schema_conform(name):
    check(table(name), arrow_schema(table(name)).empty_table())


def test_rows_that_conform_pass(experts, neurons):
    check(EXPERTS, experts())
    check(NEURONS, neurons())


def test_a_missing_column_is_named(experts):
    with pytest.raises(SchemaError, match=r"^table experts: columns missing \['expert'\], not declared \[\]; declared"):
        check(EXPERTS, experts().drop_columns("expert"))


def test_an_undeclared_column_is_named(experts):
    with pytest.raises(SchemaError, match=r"^table experts: columns missing \[\], not declared \['score'\]"):
        check(EXPERTS, experts().append_column("score", pa.array([1.0, 2.0, 3.0])))


def test_columns_in_another_order_are_refused(experts):
    with pytest.raises(SchemaError, match=r"^table experts: columns in another order; declared: partition_id, stack"):
        check(EXPERTS, experts().select(["stack", "partition_id", "layer", "neuron", "expert"]))


def test_a_wrong_type_is_named(experts):
    wide = experts().set_column(3, "neuron", pa.array([0, 1, 2], pa.int64()))
    with pytest.raises(SchemaError, match=r"^table experts, column neuron: type int64, declared int32$"):
        check(EXPERTS, wide)


def test_a_null_is_named_with_its_row(neurons):
    with pytest.raises(SchemaError, match=r"^table neurons, column mean: NULL at row 1, declared not null$"):
        check(NEURONS, neurons(mean=[0.5, None, 0.5]))


def test_a_null_in_a_nullable_column_passes(neurons):
    check(NEURONS, neurons(native_expert=[None, 1, None]))


def test_a_null_among_the_values_of_a_dictionary_is_a_null(experts):
    hidden = pa.DictionaryArray.from_arrays(pa.array([0, 0, 1], pa.int32()), pa.array(["encoder", None]))
    with pytest.raises(SchemaError, match="column stack: NULL at row 2"):
        check(EXPERTS, experts().set_column(1, "stack", hidden))


@pytest.mark.parametrize(("value", "shown"), [(float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")])
def test_nan_and_infinity_are_named_with_their_row(neurons, value, shown):
    with pytest.raises(SchemaError, match=f"^table neurons, column max: {shown} at row 2$"):
        check(NEURONS, neurons(max=[0.5, 0.5, value]))


def test_nan_is_found_beside_nulls():
    declared = table("neuron_functions")
    row = dict.fromkeys(declared.column_names, 0.5) | {"run_id": "r", "model": "m", "revision": "main", "step": None}
    row |= {"stack": "encoder", "layer": 0, "neuron": 0, "family": "f", "function": "g"}
    rows = [row | {"ap_half_a": None}, row | {"neuron": 1, "ap_half_a": float("nan")}, row | {"neuron": 2}]
    with pytest.raises(SchemaError, match=r"^table neuron_functions, column ap_half_a: nan at row 1$"):
        check(declared, pa.Table.from_pylist(rows, schema=arrow_schema(declared)))


def test_a_float_column_of_nulls_only_passes():
    declared = table("neuron_functions")
    row = dict.fromkeys(declared.column_names, 0.5) | {"run_id": "r", "model": "m", "revision": "main", "step": None}
    row |= {"stack": "encoder", "layer": 0, "neuron": 0, "family": "f", "function": "g", "p_value": None}
    check(declared, pa.Table.from_pylist([row], schema=arrow_schema(declared)))


def test_dictionary_encoded_strings_are_accepted(experts):
    rows = experts()
    for place, name in enumerate(("partition_id", "stack")):
        rows = rows.set_column(place, name, rows.column(name).dictionary_encode())
    check(EXPERTS, rows)


def test_dictionary_encoded_strings_of_several_chunks_are_compared_by_value(experts):
    def encoded(layer: int, values: list[str]) -> pa.Table:
        stack = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array(values))
        return experts(1, layer=layer).set_column(1, "stack", stack)

    check(EXPERTS, pa.concat_tables([encoded(0, ["encoder"]), encoded(0, ["decoder", "encoder"])]))
    with pytest.raises(SchemaError, match="row 1 repeats the key"):
        check(EXPERTS, pa.concat_tables([encoded(0, ["encoder"]), encoded(0, ["encoder", "decoder"])]))


def test_a_dictionary_that_holds_a_value_twice_hides_no_repeated_key(experts):
    twice = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(["encoder", "encoder"]))
    rows = rows_of_experts([("p", "encoder", 0, 0), ("p", "encoder", 0, 0)]).set_column(1, "stack", twice)
    with pytest.raises(SchemaError, match="row 1 repeats the key"):
        check(EXPERTS, rows)


def test_a_repeated_key_in_unsorted_rows_is_named_with_its_row():
    keys = [("p", "encoder", 1, 5), ("p", "encoder", 0, 7), ("p", "decoder", 1, 5), ("p", "encoder", 0, 7)]
    with pytest.raises(
        SchemaError,
        match=r"^table experts: row 3 repeats the key partition_id='p', stack='encoder', layer=0, neuron=7$",
    ):
        check(EXPERTS, rows_of_experts(keys))


def test_a_repeated_key_among_integers_far_apart_is_found():
    schema = arrow_schema(table("texts"))
    ids = [-(2**63), 2**63 - 1, 0, 2**63 - 1]
    rows = [
        {"corpus": "c", "text_id": each, "text": "t", "target": None, "split_group": None, "half": "a"} for each in ids
    ]
    check(table("texts"), pa.Table.from_pylist(rows[:3], schema=schema))
    with pytest.raises(SchemaError, match="row 3 repeats the key corpus='c', text_id=9223372036854775807"):
        check(table("texts"), pa.Table.from_pylist(rows, schema=schema))


def test_keys_of_many_wide_columns_do_not_overflow():
    # Eight key columns of thousands of values each: their product is far beyond 64 bits.
    declared = table("perturbations")
    row = dict.fromkeys((column.name for column in declared.columns if column.type == "string"), "x")
    row |= {column.name: 1.0 for column in declared.columns if column.type == "float64"}
    row |= {"seed": 0, "n_neurons": 1, "n_instances": 1}
    names = [name for name in declared.grain if name not in ("dose", "seed")]
    rows = [
        row | {name: f"{name}{index}" for name in names} | {"dose": float(index), "seed": index * 2**33}
        for index in range(3000)
    ]
    rows += [rows[0] | {"seed": 1}]
    schema = arrow_schema(declared)
    check(declared, pa.Table.from_pylist(rows, schema=schema))
    with pytest.raises(SchemaError, match=r"row 3001 repeats the key .*seed=2147483648000"):
        check(declared, pa.Table.from_pylist([*rows, rows[250]], schema=schema))


KEYS = st.tuples(
    st.sampled_from(["p", "q", ""]), st.sampled_from(["encoder", "decoder"]), st.integers(0, 3), st.integers(0, 3)
)


@settings(max_examples=50, deadline=None)
@given(st.lists(KEYS, unique=True), st.booleans())
def test_unique_keys_pass_in_any_order(keys, encode):
    rows = rows_of_experts(keys)
    if encode:
        rows = rows.set_column(1, "stack", rows.column("stack").dictionary_encode())
    check(EXPERTS, rows)


@settings(max_examples=50, deadline=None)
@given(st.lists(KEYS, unique=True, min_size=1), st.data())
def test_a_repeated_key_is_found_wherever_it_stands(keys, data):
    repeated = data.draw(st.sampled_from(keys))
    keys = list(keys)
    keys.insert(data.draw(st.integers(0, len(keys))), repeated)
    with pytest.raises(SchemaError, match=f"table experts: row {len(keys) - 1 - keys[::-1].index(repeated)} repeats"):
        check(EXPERTS, rows_of_experts(keys))
