"""Digests of definitions and files."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronlake.errors import StoreError
from neuronlake.schema.names import file_sha256, identifier

VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)


def test_the_documented_example_holds():
    assert identifier({"corpus": "semcor", "pooling": "max"}) == "62f82c1f3590ecd3"


@given(st.dictionaries(st.text(), VALUES))
def test_the_order_of_keys_does_not_matter(definition):
    assert identifier(dict(reversed(definition.items()))) == identifier(definition)
    assert re.fullmatch("[0-9a-f]{16}", identifier(definition))


@given(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1), VALUES)
def test_another_value_has_another_identifier(definition, value):
    changed = definition | {next(iter(definition)): [value, "changed"]}
    assert identifier(changed) != identifier(definition)


def test_values_that_print_alike_are_told_apart():
    assert len({identifier({"seed": value}) for value in (1, "1", None, "None", True, [1])}) == 6


def test_nan_is_no_definition():
    with pytest.raises(ValueError, match="JSON compliant"):
        identifier({"dose": float("nan")})


def test_a_file_has_the_sha256_of_its_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"neuron" * 100_000)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"neuron" * 100_000).hexdigest()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"cannot read .*absent: No such file"):
        file_sha256(tmp_path / "absent")
