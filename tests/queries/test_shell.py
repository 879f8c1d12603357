import io
from pathlib import Path

import pytest

from neuronlake.errors import QueryError
from neuronlake.queries.database import Database
from neuronlake.queries.shell import answer, complete, history_file, is_complete, run_shell


def answered(database: Database, text: str) -> str:
    stream = io.StringIO()
    assert answer(database, text, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("des", ["desc", "describe", "description"]),
        ("select * from spec", ["specialization"]),
        ("select * from runs join lay", ["layers"]),
        ("select * from layers where module", ["module_path"]),
        ("select second_family_l", ["second_family_lift"]),
        ("SELECT * FROM Speci", ["specialization"]),
        (".sch", [".schema"]),
        ("from modul", ["modularization", "modularization_by"]),
        (".schema corp", ["corpora"]),
        ("select ", []),
        ("select * from layers where xyz", []),
    ],
)
def test_a_word_is_completed_from_where_it_stands(text: str, expected: list[str]) -> None:
    assert list(complete(text)) == expected


def test_columns_of_the_named_table_come_before_keywords() -> None:
    assert list(complete("select * from layers where l"))[:2] == ["layer", "left"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("select 1", False), ("select 1;", True), ("select\n1 ; ", True), (".tables", True), ("", True), ("  ", True)],
)
def test_enter_ends_the_input_after_a_semicolon(text: str, expected: bool) -> None:
    assert is_complete(text) == expected


def test_rows_come_as_a_table_and_errors_as_one_line(database: Database) -> None:
    assert answered(database, "select revision from runs order by all;") == "revision\nstep0\nstep1000\n"
    assert answered(database, "selec 1;") == 'error: Parser Error: syntax error at or near "selec"\n'
    assert answered(database, "copy runs to 'x.csv';").startswith("error: copy is refused")
    assert answered(database, "") == ""


def test_commands_describe_what_there_is(database: Database) -> None:
    assert "  layers " in answered(database, ".tables")
    assert "specialization" not in answered(database, ".tables")
    assert "  specialization " in answered(database, ".views")
    assert answered(database, ".schema layers").startswith("layers: one measured feed-forward layer of a run\n  run_id")
    assert "  held_out_lift " in answered(database, ".schema specialization")
    assert answered(database, ".schema layer") == "error: no table or view 'layer'; did you mean 'layers'?\n"
    assert answered(database, ".tabels") == "error: no command '.tabels'; did you mean '.tables'?\n"
    assert ".quit" in answered(database, ".help")
    assert answered(database, ".refresh") == ""


def test_quit_leaves(database: Database) -> None:
    assert not answer(database, ".quit", io.StringIO())


def test_the_history_lies_in_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "neuronlake" / "history"


def test_the_prompt_answers_over_several_lines_and_leaves_at_the_end(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("select max(step) as last\rfrom runs;\rhalf a line\x03.views\r\x04")
        run_shell(database)
    printed = capsys.readouterr().out
    assert "last\n1000\n" in printed
    assert "specialization" in printed
    assert "error" not in printed
    assert "+select max(step) as last\n+from runs;" in (tmp_path / "neuronlake" / "history").read_text()


def test_piped_statements_are_answered_without_a_prompt(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("select max(step) as last from runs; select 1 as one;\n"))
    run_shell(database)
    assert capsys.readouterr().out == "last\n1000\none\n  1\n"


def test_piped_statements_end_at_semicolons_of_their_own_and_failures_are_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "select ';é' as x; -- one; more\nselect 2 as two; selec"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(QueryError, match="1 of 3 statements failed"):
        run_shell(database)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["x", ";é", "two", "  2"]
    assert lines[4].startswith("error: ")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{text}; select 'open"))
    with pytest.raises(QueryError, match="statements failed"):
        run_shell(database)
