"""The declarations themselves."""

import pytest

from neuronlake.errors import UnknownNameError
from neuronlake.schema.tables import TABLES, table


@pytest.mark.parametrize("name", TABLES)
def test_the_grain_is_made_of_declared_columns_that_are_never_null(name):
    declared = table(name)
    assert declared.grain
    assert all(not declared.column(column).nullable for column in declared.grain)


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_named_once_and_described_without_a_full_stop(name):
    declared = table(name)
    assert len(set(declared.column_names)) == len(declared.column_names)
    assert all(column.description and not column.description.endswith(".") for column in declared.columns)
    assert not any("|" in column.description for column in declared.columns)  # they become cells of a table


def test_a_table_that_is_not_declared_is_refused_with_the_closest_name():
    with pytest.raises(UnknownNameError, match="no table 'neuron'; did you mean 'neurons'"):
        table("neuron")


def test_a_column_that_is_not_declared_is_a_key_error():
    with pytest.raises(KeyError, match="activation"):
        table("neurons").column("activation")
