import re

import duckdb
import pytest

from neuronlake.errors import QueryError, UnknownNameError
from neuronlake.queries import catalog
from neuronlake.queries.database import Database
from neuronlake.schema.tables import TABLES

VIEWS = catalog.views()
NAMES = [view.name for view in VIEWS]

HEADER = """-- first: which is it?
--
-- More about it,
-- and more.
--
-- Grain: a, b
-- Source: runs
-- Columns:
--   a: the first: with a colon
--   b: the second
select 1 as a, 2 as b
"""


def test_a_header_is_read() -> None:
    view = catalog.parse(HEADER)
    assert (view.name, view.answers, view.note) == ("first", "which is it?", "More about it, and more.")
    assert (view.grain, view.source, view.sql) == (("a", "b"), ("runs",), "select 1 as a, 2 as b")
    assert list(view.columns.items()) == [("a", "the first: with a colon"), ("b", "the second")]
    assert not view.is_intermediate


def test_a_header_may_mark_a_view_as_intermediate_and_only_name_columns() -> None:
    view = catalog.parse(HEADER.replace("--\n-- Grain", "-- Intermediate\n-- Grain").replace(": the second", ", c"))
    assert (view.is_intermediate, view.note) == (True, "More about it, and more.")
    assert list(view.columns) == ["a", "b", "c"]


def test_a_column_that_a_header_only_names_means_what_it_means_in_the_source() -> None:
    declared = {column.name: column.description for column in TABLES["neuron_functions"].columns}
    described = catalog.view("family_similarity").columns
    assert described["revision"] == declared["revision"]
    assert described["family_b"] == "the same family, or one after it by name"


@pytest.mark.parametrize("mark", ["Grain", "Source", "Columns"])
def test_a_header_that_lacks_a_part_is_refused(mark: str) -> None:
    with pytest.raises(QueryError, match=f"view 'first': .*-- {mark}:"):
        catalog.parse(HEADER.replace(mark, "Something"))


def test_an_unknown_view_is_reported_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'specialization'"):
        catalog.view("specialisation")


def test_a_view_comes_after_all_that_it_reads() -> None:
    assert catalog.reads("family_similarity") == (
        "layers",
        "neuron_functions",
        "run_functions",
        "neuron_scores",
        "function_similarity_by",
        "family_similarity_by",
        "family_similarity",
    )


def source_names(query: str) -> list[str]:
    """Return the names of the tables, views and their macros a query reads, sorted, those of its own CTEs excluded."""
    tables, ctes, functions = duckdb.execute(
        "select json_extract_string(tree, '$..table_name'), json_extract_string(tree, '$..cte_map.map[*].key'), "
        "json_extract_string(tree, '$..function_name') from (select json_serialize_sql(?) as tree)",
        [query],
    ).fetchall()[0]
    scored = {"run_functions", *re.findall(r"scored\('(\w+)'\)", query)} if "scored" in functions else set()
    return sorted({*tables} - {*ctes} | {*functions} & {*catalog.ranked()} | scored)


def test_a_query_reads_tables_but_not_its_own_ctes() -> None:
    query = "with a as (from runs), b as (select (select max(layer) from layers)) from a, b, a as c"
    assert source_names(query) == ["layers", "runs"]


@pytest.mark.parametrize("view", VIEWS, ids=NAMES)
def test_the_header_is_what_the_query_is(database: Database, view: catalog.View) -> None:
    for name in filter(None, (view.name, view.macro)):
        assert source_names(catalog.query(name)) == catalog.sources(name)
    described = [row[0] for row in database.sql(f"describe {view.name}").rows()]
    assert described == list(view.columns)
    assert all(view.columns.values())
    assert view.answers.endswith("?")
    assert set(view.grain) <= set(described)
    # A partition, and so an agreement of two, need not come from a run.
    assert view.name == "partition_agreement" or {"model", "revision", "step", "run_id"} <= set(described)


@pytest.mark.parametrize("view", VIEWS, ids=NAMES)
def test_the_grain_is_unique_and_never_null_and_no_value_nan_or_infinite(
    database: Database, view: catalog.View
) -> None:
    columns = [name for name, kind, *_ in database.sql(f"describe {view.name}").rows() if kind in ("FLOAT", "DOUBLE")]
    keys = ", ".join(view.grain)
    wrong = [f"{key} is null" for key in view.grain] + [f"not isfinite({name})" for name in columns]
    counts = ", ".join(f"count(*) filter (where {each})" for each in wrong)
    total, distinct, *n_wrong = database.sql(
        f"select count(*), count(distinct ({keys})), {counts} from {view.name}"
    ).rows()[0]
    assert distinct == total
    assert dict(zip(wrong, n_wrong, strict=True)) == dict.fromkeys(wrong, 0)
    # The two runs of the fixture have different weights.
    assert (total > 0) == (view.name != "checkpoint_identity")


def test_views_and_tables_have_different_names() -> None:
    assert set(NAMES) & set(TABLES) == set()
    assert len(set(NAMES)) == len(NAMES)
