"""The data dictionary that `neuronlake tables` prints."""

import pytest

from neuronlake.errors import UnknownNameError
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store
from neuronlake.schema.tables import TABLES


def test_tables_are_listed_with_the_rows_they_hold(filled: Store, database: Database) -> None:
    found = {row["name"]: row for row in database.describe_tables()}
    assert list(found) == list(TABLES)
    n_rows = database.sql("select count(*) from neuron_functions").rows()[0][0]
    assert found["neuron_functions"]["n_rows"] == n_rows
    assert found["perturbations"]["n_files"] == 1
    assert found["runs"]["grain"] == "run_id"


def test_views_are_listed_with_what_they_answer(database: Database) -> None:
    found = {row["name"]: row for row in database.describe_views()}
    assert "which function does each neuron detect best" in str(found["specialization"]["answers"])
    assert found["specialization"]["is_materialized"] is False


@pytest.mark.parametrize("name", ["runs", "specialization"])
def test_columns_are_described_in_order(database: Database, name: str) -> None:
    rows = list(database.describe_columns(name))
    assert [row["name"] for row in rows] == list(database.sql(f"from {name} limit 0").columns)
    assert all(row["description"] for row in rows)


def test_a_table_that_is_not_there_is_refused_with_the_nearest_name(database: Database) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'specialization'"):
        database.describe_columns("specialisation")
