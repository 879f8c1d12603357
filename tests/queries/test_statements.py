"""The SQL files that Python code runs say what they answer, take and return."""

import re
from pathlib import Path

import duckdb
import pytest

from neuronlake import queries
from neuronlake.queries.database import Database
from neuronlake.queries.statements import statement

FILES = sorted((Path(queries.__file__).parent / "statements").glob("*.sql"))


def test_the_comment_at_the_top_is_no_part_of_a_statement() -> None:
    assert statement("alignment_experts").startswith("select\n")
    with pytest.raises(FileNotFoundError):
        statement("no_such_statement")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_statement_is_one_query_and_its_header_names_parameters_and_columns(file: Path) -> None:
    sql = statement(file.stem)
    header = file.read_text().removesuffix(sql + "\n")
    assert re.match(rf"-- {file.stem}: .*\?", header), "the header opens with the name and the question it answers"
    tree, fails = duckdb.execute(
        "select tree, tree ->> '$.error' = 'true' from (select json_serialize_sql(?) as tree)", [sql]
    ).fetchall()[0]
    assert not fails, tree
    (parsed,) = duckdb.extract_statements(sql)
    lines = re.findall(r"^--   (\$?\w+(?:, \w+)*): .", header, re.MULTILINE)
    described = {name.removeprefix("$") for line in lines for name in line.split(", ")}
    assert set(parsed.named_parameters) <= described
    assert "-- Columns:" in header
    columns = duckdb.execute(
        "select list_transform(cast(?::json -> '$.statements[0].node.select_list[*]' as json[]), "
        "lambda each: coalesce(nullif(each ->> '$.alias', ''), each ->> '$.column_names[-1]'))",
        [tree],
    ).fetchall()[0][0]
    assert {column for column in columns if column} <= described


def test_a_database_is_asked_by_the_name_of_a_statement_which_takes_the_parameters_that_it_names(
    database: Database,
) -> None:
    rows = database.ask("measured_layers", run="a" * 16, partition="of another statement")
    assert rows.columns == ("stack", "layer", "n_neurons")
    assert rows.rows() == database.sql("select stack, layer, n_neurons from layers where run_id[1] = 'a'").rows() != []
