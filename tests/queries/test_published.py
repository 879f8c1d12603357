"""The known answer: what the views make of the authors' published scores and partition of T5-base."""

import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from neuronlake.queries.database import Database
from neuronlake.schema.store import Store
from neuronlake.schema.tables import TABLES

pytestmark = pytest.mark.reference

KEYS = {"run_id": "f" * 16, "model": "t5-base", "revision": "main", "step": None, "stack": "encoder"}


@pytest.fixture(scope="module")
def published(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Return a database of the published table alone."""
    neurons = pl.read_parquet(shared / "reference" / "t5_base_task" / "neurons.parquet")
    layers = neurons.group_by("layer").len("n_neurons").sort("layer")
    store = Store(tmp_path_factory.mktemp("published") / "store")
    with store.job(KEYS["run_id"], kind="import") as job:
        job.write("runs", rows("runs", pl.DataFrame({"measurement": ["imported"]})))
        job.write("layers", rows("layers", layers))
        scores = neurons.rename({"predictivity": "ap"}).with_columns(family=pl.lit("task"), function=pl.lit("mean"))
        job.write("neuron_functions", rows("neuron_functions", scores))
        partition = pl.DataFrame({"partition_id": ["e" * 16], "method": ["imported"], "n_experts": [16]})
        job.write("partitions", rows("partitions", partition))
        job.write("experts", rows("experts", neurons.with_columns(partition_id=pl.lit("e" * 16))))
        job.commit()
    return Database(store)


@pytest.fixture(scope="module")
def expected(shared: Path) -> dict[str, object]:
    """Return what was computed independently on the same table."""
    return json.loads((shared / "reference" / "t5_base_task" / "expected.json").read_text())


def rows(name: str, given: pl.DataFrame) -> pa.Table:
    """Return a conforming table: given columns, the run's keys, and NULL, or nothing where that is not allowed."""
    arrow = given.to_arrow()
    types = {"string": pa.string(), "bool": pa.bool_(), "timestamp": pa.timestamp("us", tz="UTC")}
    columns = {}
    for column in TABLES[name].columns:
        type_ = types.get(column.type) or getattr(pa, column.type)()
        if column.name in arrow.column_names:
            columns[column.name] = arrow[column.name].cast(type_)
        elif column.name in KEYS or column.nullable:
            columns[column.name] = pa.array([KEYS.get(column.name)] * len(given), type_)
        else:
            columns[column.name] = pa.array(["" if column.type == "string" else 0] * len(given), type_)
    return pa.table(columns)


def test_the_functional_experts_are_the_published_ones(published: Database, expected: dict[str, object]) -> None:
    query = (
        "select layer, expert, n_top, p_value from functional_experts where level = 'function' order by layer, expert"
    )
    found = published.sql(query).rows()
    assert found == [
        (layer["layer"], expert, count, pytest.approx(p_value, rel=1e-9, abs=0))
        for layer in expected["layers"]
        for expert, count, p_value in zip(layer["functional_experts"], layer["counts"], layer["p_values"], strict=True)
    ]
    assert len(found) == 7


def test_a_family_of_one_function_has_the_experts_of_the_function(published: Database) -> None:
    query = "select layer, expert, n_top, p_value from functional_experts where level = '{}' order by layer, expert"
    family, function = (published.sql(query.format(level)).rows() for level in ("family", "function"))
    assert family == function


def test_proportion_degree_and_effect_size_are_the_published_ones(
    published: Database, expected: dict[str, object]
) -> None:
    query = "select layer, proportion, degree, eta_squared, n_experts from modularization order by layer"
    found = published.sql(query).rows()
    assert found == [
        (
            layer["layer"],
            layer["proportion"],
            pytest.approx(layer["degree"], rel=1e-12),
            pytest.approx(layer["eta_squared"], abs=1e-3),
            16,
        )
        for layer in expected["layers"]
    ]
    means = published.sql("select avg(proportion), avg(degree) from modularization").rows()[0]
    assert means == pytest.approx((expected["mean_proportion"], expected["mean_degree"]), rel=1e-12)


def test_seven_of_thirty_is_below_the_bar_and_eight_above(published: Database, expected: dict[str, object]) -> None:
    assert {layer["threshold"] for layer in expected["layers"]} == {7}
    query = "select distinct is_functional from expert_function_alignment where n_top {}"
    assert published.sql(query.format("<= 7")).rows() == [(False,)]
    assert published.sql(query.format(">= 8")).rows() == [(True,)]


def test_what_the_table_does_not_say_is_null(published: Database) -> None:
    query = "select distinct direction, lift, p_value, q_value, is_significant, held_out_function from specialization"
    assert published.sql(query).rows() == [(None,) * 6]
    assert published.sql("select count(*) from held_out_top_neurons").rows() == [(0,)]
    query = "select distinct n_random, random_proportion, random_degree, random_eta_squared from modularization"
    assert published.sql(query).rows() == [(0, None, None, None)]
