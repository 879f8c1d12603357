from collections.abc import Callable

import pytest

from neuronlake.errors import UnknownNameError
from neuronlake.queries import catalog
from neuronlake.queries.database import Database
from neuronlake.queries.materialize import current_file, materialize
from neuronlake.queries.script import views_sql
from neuronlake.schema.store import Store


def test_a_kept_view_is_read_and_gives_the_same_rows(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16)
    live = Database(store).sql("from specialization order by all").rows()
    (kept,) = materialize(Database(store), ["specialization"])
    assert kept.is_new
    database = Database(store)
    assert database.sql("from specialization order by all").rows() == live
    assert "derived" in "".join(row[1] for row in database.sql("explain analyze from specialization").rows())
    described = Database(store).sql("describe specialization").rows()
    kept.path.unlink()
    assert Database(store).sql("describe specialization").rows() == described


def test_what_is_current_is_not_computed_again(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16)
    assert [kept.is_new for kept in materialize(Database(store), ["top_neurons", "top_neurons"])] == [True, False]


def test_after_another_commit_the_view_is_live_and_the_old_file_goes(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16)
    (old,) = materialize(Database(store), ["specialization"])
    run(store, "b" * 16, revision="new")
    database = Database(store)
    assert current_file(database, "specialization") is None
    assert database.sql("select count(distinct run_id) from specialization").rows() == [(2,)]
    (new,) = materialize(database, ["specialization"])
    assert list(old.path.parent.iterdir()) == [new.path]


def test_views_over_a_kept_view_read_it(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16)
    live = Database(store).sql("from family_similarity order by all").rows()
    materialize(Database(store), ["function_similarity"])
    assert Database(store).sql("from family_similarity order by all").rows() == live


def test_an_unknown_view_is_refused(database: Database) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'top_neurons'"):
        materialize(database, ["top_neuron"])


def test_the_script_makes_the_same_views_in_a_plain_client(filled: Store, database: Database) -> None:
    import duckdb

    with duckdb.connect() as client:
        client.execute(views_sql(filled))
        for view in catalog.views():
            expected = database.sql(f"from {view.name} order by all").rows()
            assert client.execute(f"from {view.name} order by all").fetchall() == expected
        comment = client.execute("select comment from duckdb_views() where view_name = 'top_neurons'").fetchall()
        assert comment == [("which 1% of a layer's neurons detect each function best?",)]
