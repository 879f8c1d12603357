import os
from collections.abc import Callable
from pathlib import Path

import pytest

from neuronlake.errors import UnknownNameError
from neuronlake.queries import cache, catalog
from neuronlake.queries.cache import materialize
from neuronlake.queries.database import Database
from neuronlake.schema import disk
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


def test_after_another_run_the_view_is_live_and_only_this_run_is_kept_anew(
    store: Store, run: Callable[..., None]
) -> None:
    run(store, "a" * 16)
    (old,) = materialize(Database(store), ["specialization"])
    run(store, "b" * 16, revision="new")
    database = Database(store)
    assert database.kept_files("specialization") == []
    assert why(database, "specialization") == "out of date"
    live = database.sql("from specialization order by all").rows()
    first, second = materialize(database, ["specialization"])
    assert (first.path, first.run_id, first.is_new) == (old.path, "a" * 16, False)
    assert (second.run_id, second.is_new) == ("b" * 16, True)
    database.refresh()
    assert database.sql("from specialization order by all").rows() == live
    assert set(old.path.parent.iterdir()) == {first.path, second.path}


def test_a_view_across_runs_is_kept_as_one_and_its_outdated_file_goes(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16)
    (old,) = materialize(Database(store), ["checkpoint_identity"])
    run(store, "b" * 16, revision="new")
    (new,) = materialize(Database(store), ["checkpoint_identity"])
    assert (new.run_id, new.is_new) == (None, True)
    assert list(old.path.parent.iterdir()) == [new.path]


def test_a_kept_piece_that_is_lacking_makes_the_view_live(store: Store, run: Callable[..., None]) -> None:
    for run_id in ("a" * 16, "b" * 16):
        run(store, run_id, revision=run_id[0], n_neurons=5)
    first, second = materialize(Database(store), ["top_neurons"])
    rows = Database(store).sql("from top_neurons order by all").rows()
    second.path.unlink()
    database = Database(store)
    assert database.kept_files("top_neurons") == []
    assert database.sql("from top_neurons order by all").rows() == rows
    assert [kept.is_new for kept in materialize(database, ["top_neurons"])] == [False, True]
    assert first.path.exists()


@pytest.mark.parametrize("name", [view.name for view in catalog.views() if view.is_by_run])
def test_rows_of_a_run_come_from_its_files_alone(filled: Store, database: Database, name: str) -> None:
    run_id = "b" * 16
    query = f"from {name} where run_id = '{run_id}' order by all"
    with Database(filled) as of_run:
        of_run.__dict__["committed"] = {
            table: [file for file in files if database.run_of(file) in (run_id, None)]
            for table, files in database.committed.items()
        }
        assert of_run.sql(query).rows() == database.sql(query).rows()


def why(database: Database, view: str) -> object:
    """Return why what is kept of a view is not read, as the list of views says."""
    found = {row["name"]: row for row in database.describe_views()}[view]
    assert not found["is_materialized"]
    return found["not_read_because"]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def altered(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])


def foreign_rows(path: Path) -> None:
    import duckdb

    duckdb.execute(f"copy (select 1 as run_id) to '{path}' (format parquet)")


@pytest.mark.parametrize("damage", [truncated, altered, foreign_rows])
def test_a_damaged_file_is_not_read_but_named_and_kept_anew(
    store: Store, run: Callable[..., None], damage: Callable[[Path], None]
) -> None:
    run(store, "a" * 16, n_neurons=5)
    live = Database(store).sql("from top_neurons order by all").rows()
    (kept,) = materialize(Database(store), ["top_neurons"])
    assert cache.problems(store) == ()
    damage(kept.path)
    database = Database(store)
    assert database.sql("from top_neurons order by all").rows() == live
    assert str(why(database, "top_neurons")).startswith("altered since it was kept")
    (problem,) = cache.problems(store)
    assert (problem.path, problem.what[:7]) == (kept.path.relative_to(store.path).as_posix(), "altered")
    (again,) = materialize(database, ["top_neurons"])
    assert again.is_new
    assert cache.problems(store) == ()
    assert Database(store).kept_files("top_neurons") == [again.path]


def test_files_without_a_digest_foreign_and_left_by_a_kill_are_named_and_repaired(
    store: Store, run: Callable[..., None]
) -> None:
    run(store, "a" * 16, n_neurons=5)
    (kept,) = materialize(Database(store), ["top_neurons"])
    stem, _, _ = kept.path.stem.partition("-")
    kept.path.rename(kept.path.with_name(f"{stem}.parquet"))
    partial = kept.path.with_name(f".{stem}.1")
    partial.write_bytes(b"PAR1")
    (store.path / "derived" / "notes.txt").write_text("mine")
    os.mkfifo(kept.path)
    found = {Path(problem.path).name: problem.what.split(",")[0] for problem in cache.problems(store)}
    assert found == {
        f"{stem}.parquet": "has no digest in its name",
        partial.name: "left by a process that was stopped while it kept a view",
        "notes.txt": "no file that neuronlake keeps there",
        kept.path.name: "no file that neuronlake keeps there",
    }
    database = Database(store)
    assert database.kept_files("top_neurons") == []
    with disk.exclusive(partial.parent):  # as while it is being written
        assert [Path(each.path).name for each in cache.remove_useless(store)] == [f"{stem}.parquet"]
    assert [Path(each.path).name for each in cache.remove_useless(store)] == [partial.name]
    assert {Path(problem.path).name for problem in cache.problems(store)} == {"notes.txt", kept.path.name}


def test_a_file_that_is_read_stays_until_the_reader_refreshes(store: Store, run: Callable[..., None]) -> None:
    view = "checkpoint_identity"
    run(store, "a" * 16, n_neurons=5)
    (old,) = materialize(Database(store), [view])
    reader = Database(store)
    rows = reader.sql(f"from {view} order by all").rows()
    run(store, "b" * 16, revision="new", n_neurons=5)
    (new,) = materialize(Database(store), [view])
    assert reader.sql(f"from {view} order by all").rows() == rows
    assert old.path.exists()
    reader.refresh()
    assert reader.kept_files(view) == [new.path]
    assert reader.sql(f"from {view} order by all").rows() != rows
    materialize(Database(store), [view])
    assert not old.path.exists()


def test_a_file_that_goes_all_the_same_is_made_up_for(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16, n_neurons=5)
    (kept,) = materialize(Database(store), ["function_similarity"])
    reader = Database(store)
    rows = reader.sql("from family_similarity order by all").rows()
    kept.path.unlink()
    assert reader.sql("from family_similarity order by all").rows() == rows
    assert reader.kept_files("function_similarity") == []


def test_what_is_committed_is_read_after_a_refresh(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16, n_neurons=5)
    database = Database(store)
    query = "select (select count(*) from runs), count(distinct run_id) from query_table('neuron' || '_scores')"
    assert database.sql(query).rows() == [(1, 1)]
    run(store, "b" * 16, revision="new", n_neurons=5)
    assert database.sql(query).rows() == [(1, 1)]
    database.refresh()
    assert database.sql(query).rows() == [(2, 2)]


def test_views_over_a_kept_view_read_it(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16)
    live = Database(store).sql("from family_similarity order by all").rows()
    materialize(Database(store), ["function_similarity"])
    assert Database(store).sql("from family_similarity order by all").rows() == live


def test_an_unknown_view_is_refused(database: Database) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'top_neurons'"):
        materialize(database, ["top_neuron"])


@pytest.mark.slow
@pytest.mark.long
def test_the_script_makes_the_same_views_in_a_plain_client(filled: Store, database: Database) -> None:
    import duckdb

    with duckdb.connect() as client:
        client.execute(Database(filled).script())
        for view in catalog.views():
            expected = database.sql(f"from {view.name} order by all").rows()
            assert client.execute(f"from {view.name} order by all").fetchall() == expected
        comment = client.execute("select comment from duckdb_views() where view_name = 'top_neurons'").fetchall()
        assert comment == [("which 1% of a layer's neurons detect each function best?",)]
