"""Views that rank neurons, by lift and by predictivity: the macros behind them, beside an independent computation."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from neuronlake.errors import QueryError
from neuronlake.queries import catalog
from neuronlake.queries.cache import materialize
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

pytestmark = pytest.mark.long

RUN = "aaaaaaaaaaaaaaaa"
RANKED = sorted(catalog.ranked())


def top_by_predictivity(store: Store, half: str = "") -> dict[tuple[object, ...], list[int]]:
    """Return each function's top neurons of a layer, 1% of it, straight from the files; ties go to the lower index."""
    scores = pl.read_parquet(list(store.files("neuron_functions"))).filter(run_id=RUN)
    tops = {}
    for key, rows in scores.sort("neuron").group_by("layer", "family", "function"):
        predictivity = np.maximum(rows[f"ap{half}"].to_numpy(), rows[f"ap_complement{half}"].to_numpy())
        tops[key] = np.argsort(-predictivity, kind="stable")[: len(rows) // 100].tolist()
    return tops


def listed(database: Database, query: str) -> dict[tuple[object, ...], list[int]]:
    """Return neurons by layer, family and function, in the order of their ranks."""
    rows = database.sql(f"select layer, family, function, list(neuron order by rank) {query} group by all").rows()
    return {(layer, family, function): neurons for layer, family, function, neurons in rows}


def test_by_predictivity_the_top_neurons_are_those_that_numpy_finds(filled: Store, database: Database) -> None:
    found = listed(database, f"from top_neurons_by('predictivity') where run_id = '{RUN}'")
    assert found == top_by_predictivity(filled)
    for half in "ab":
        query = f"from held_out_top_neurons_by('predictivity') where run_id = '{RUN}' and half = '{half}'"
        assert listed(database, query) == top_by_predictivity(filled, f"_half_{half}")


def test_where_classes_are_balanced_both_rankings_list_the_same_and_elsewhere_not(
    filled: Store, database: Database
) -> None:
    by_lift = listed(database, f"from top_neurons where run_id = '{RUN}'")
    by_predictivity = top_by_predictivity(filled)
    same = {key[1:] for key, neurons in by_lift.items() if neurons == by_predictivity[key]}
    # The other functions have prevalences of .1, .3 and .02.
    assert same == {("knowledge", "capital"), ("semantic", "bank")}


@pytest.mark.parametrize("macro", RANKED)
def test_a_ranked_view_is_its_macro_by_lift(database: Database, macro: str) -> None:
    name = catalog.ranked()[macro].name
    by_lift, view, other = (
        database.sql(f"from {each} order by all") for each in (f"{macro}('lift')", name, f"{macro}('predictivity')")
    )
    assert by_lift.rows() == view.rows()
    assert other.columns == view.columns
    # The experts of this store are functional for functions with balanced classes.
    assert (other.rows() == view.rows()) == (name in ("functional_experts", "expert_births"))


@pytest.mark.parametrize("name", ["top_neurons", "modularization"])
def test_a_ranking_that_there_is_not_is_an_error_that_lists_those_there_are(database: Database, name: str) -> None:
    for ranking in ("'ap'", "null"):
        with pytest.raises(QueryError, match=r"there is no ranking (ap|NULL); there are lift and predictivity"):
            database.sql(f"from {name}_by({ranking})").rows()


def test_kept_rows_serve_the_ranking_they_were_kept_by(store: Store, run: Callable[..., None]) -> None:
    run(store, RUN)
    asked = [f"from {view}_by('{ranking}') order by all" for view in ("top_neurons", "held_out_top_neurons")
             for ranking in ("lift", "predictivity")]  # fmt: skip
    live = [Database(store).sql(query).rows() for query in asked]
    (kept,) = materialize(Database(store), ["live_top_lists"])
    database = Database(store)
    assert [database.sql(query).rows() for query in asked] == live
    plans = [database.sql(f"explain analyze {query}").rows()[0][1] for query in asked[:2]]
    assert ["live_top_lists" in plan for plan in plans] == [True, False]
    kept.path.unlink()
    assert [database.sql(query).rows() for query in asked] == live


def test_a_macro_is_described_as_its_view(database: Database) -> None:
    assert database.describe_columns("top_neurons_by").rows() == database.describe_columns("top_neurons").rows()
    rows = {row["name"]: row["by_ranking"] for row in database.describe_views()}
    assert rows["top_neurons"] == "top_neurons_by('predictivity')"
    assert rows["specialization"] is None
