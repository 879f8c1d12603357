"""The page: its numbers are the store's, it runs nothing that a store holds, and it is the same twice."""

import csv
import html
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from serving import serving

import neuronlake
from neuronlake.cli import main
from neuronlake.queries.database import Database
from neuronlake.report.page import write_report
from neuronlake.report.picture import TEXTS
from neuronlake.schema.commits import commit_text
from neuronlake.schema.store import Store

HOSTILE = "</script><script>"


def ask(database: Database, query: str) -> list[list[str]]:
    """Return the rows of a query, asked in a process of its own."""
    command = [sys.executable, "-m", "neuronlake", "--store", str(database.store.path), "sql", "-", "--format", "csv"]
    done = subprocess.run(command, input=query, capture_output=True, text=True, check=True)
    return list(csv.reader(io.StringIO(done.stdout)))


def embedded(page: Path) -> dict:
    """Return what the page's script reads."""
    return json.loads(re.search(r'id="report">(.*?)</script>', page.read_text(), re.DOTALL)[1])


@pytest.mark.slow
def test_the_sql_beside_a_picture_gives_its_numbers_elsewhere(planted: Database, page: Path) -> None:
    queries = [
        html.unescape(query) for query in re.findall(r"<code>((?:with|select).*?)</code>", page.read_text(), re.DOTALL)
    ]
    pictures = embedded(page)["pictures"]
    assert len(queries) == len(pictures) == len(TEXTS)
    for picture, query in zip(pictures, queries, strict=True):
        columns, *rows = ask(planted, query)
        assert columns == picture["columns"]
        assert len(rows) == len(picture["rows"])
        for asked, shown in zip(rows, picture["rows"], strict=True):
            for text, value in zip(asked, shown, strict=True):
                if isinstance(value, float):
                    assert float(text) == pytest.approx(value, rel=2e-5, abs=1e-9)
                else:
                    assert text == (
                        "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
                    )


def test_the_counts_of_the_first_sentence_are_those_of_the_view(planted: Database, page: Path) -> None:
    run = "run_id in (select run_id from runs where revision = 'step16000')"
    counts = planted.sql(
        "select count(*), count(*) filter (is_significant), count(*) filter (is_significant and is_selective) "
        f"from specialization where {run}"
    ).rows()[0]
    sentence = embedded(page)["pictures"][0]["sentence"]
    assert re.search(rf"^{counts[2]} neurons .*; {counts[1]} of {counts[0]} neurons", sentence), sentence


def test_names_and_texts_stay_text(page: Path) -> None:
    text = page.read_text()
    assert "owned" in text
    assert HOSTILE not in text
    assert "<img" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.slow
def test_the_same_store_gives_the_same_bytes(planted: Database, page: Path, tmp_path: Path) -> None:
    again = write_report(Database(planted.store.path), tmp_path / "again.html")
    assert again.read_bytes() == page.read_bytes()
    assert page.stat().st_size < 2_000_000


@pytest.mark.slow
def test_a_store_at_a_url_gives_the_same_bytes(planted: Database, page: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(planted.store.path, tmp_path / "store")
    (folder / "commits.json").write_text(commit_text(planted.store.commits()))
    with serving(folder) as served, Database(served.url) as database:
        assert write_report(database, tmp_path / "remote.html").read_bytes() == page.read_bytes()


def test_cards_show_texts_by_side_of_the_function_tokens_and_vocabulary(page: Path) -> None:
    subject = embedded(page)["subjects"][0]
    assert len(subject["cards"]) == len(subject["functions"]) * len(subject["layers"]) == 32
    family, function = subject["functions"].index(["semantic", "s1"]), subject["layers"].index(["encoder", 0])
    card = subject["cards"][f"{family},{function}"]
    assert [side for side, _ in card["sides"]] == ["of", "not of"]
    for side, texts in card["sides"]:
        for _, text in texts:
            number = int(re.search(r"number (\d+)", text if isinstance(text, str) else text[-1][0])[1])
            assert ((number + 9) % 2 == 0) == (side == "of")
    assert dict(card["words"]) == {"writes": ["<b>bank"], "reads": ["river"]}


def test_tokens_mark_the_texts_that_they_are_known_of(planted: Database) -> None:
    from neuronlake.report.cards import _parts

    row = {"text": "a text number 2", "tokens": [{"start": 0, "past_end": 1, "activation": 0.5},
                                                 {"start": 2, "past_end": 6, "activation": 2.0}]}  # fmt: skip
    assert _parts(row) == [("a", 0.25), (" ", 0.0), ("text", 1.0), (" number 2", 0.0)]
    long = {"text": "x " * 200 + "bank" + " y" * 200, "tokens": [{"start": 400, "past_end": 404, "activation": 1.0}]}
    parts = _parts(long)
    assert ("bank", 1.0) in parts
    assert (parts[0][0], parts[-1][0]) == ("…", "…")
    assert sum(len(part) for part, _ in parts) < 120


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, run) -> Store:
    """Return a store of one run alone, of which a page has few pictures."""
    store = Store(tmp_path_factory.mktemp("small") / "store")
    run(store, "a" * 16)
    return store


def test_what_is_missing_is_said_with_the_command_that_adds_it(small: Store, tmp_path: Path) -> None:
    page = write_report(Database(small), tmp_path / "report.html").read_text()
    for command in ("ingest tiny --corpus words --random-init 0", "--controls", "partition tiny", "perturb tiny"):
        assert command in page
    assert "perturbed-functions" not in page


def test_names_that_a_store_lacks_and_a_store_without_runs_are_one_line(
    planted: Database, small: Store, tmp_path: Path
) -> None:
    store = str(planted.store.path)
    for option, name, known in (
        ("--model", "tinny", "tiny"),
        ("--corpus", "word", "words"),
        ("--family", "x", "semantic"),
    ):
        result = CliRunner().invoke(main, ["--store", store, "report", option, name, "-o", str(tmp_path / "r.html")])
        assert result.exit_code == 1
        assert known in result.stderr
        assert result.stderr.count("\n") == 1
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(main, ["--store", str(tmp_path / "empty"), "report", "-o", str(tmp_path / "r.html")])
    assert result.exit_code == 1
    result = CliRunner().invoke(main, ["--store", str(small.path), "report", "-o", str(tmp_path / "no" / "r.html")])
    assert (result.exit_code, "cannot write" in result.stderr) == (1, True)
    result = CliRunner().invoke(main, ["--store", store, "report", "-o", "x.html", "--figures", str(tmp_path / "f")])
    assert result.exit_code == 2


@pytest.mark.slow
def test_figures_are_five_files_a_picture(planted: Database, tmp_path: Path) -> None:
    files = neuronlake.write_figures(planted, tmp_path / "figures", family="semantic")
    assert {path.stem for path in files} == set(TEXTS) - {"dose-curves"}
    assert len(files) == 5 * len({path.stem for path in files})
    for path in files:
        start = path.read_bytes()[:5]
        assert {".svg": b"<svg ", ".pdf": b"%PDF-", ".png": b"\x89PNG\r"}.get(path.suffix, start) == start
    caption = (tmp_path / "figures" / "function-map.txt").read_text()
    assert "Layers hold neurons" in caption
    assert "select" in caption
    header = (tmp_path / "figures" / "function-map.csv").read_text().partition("\n")[0]
    assert header == "stack,layer,family,function,neuron,held_out_lift,random_lift,control_lift,difference"


def test_charts_are_altair_objects_with_the_sentence_as_description(planted: Database) -> None:
    chart = neuronlake.plot_function_map(planted, "tiny", family="semantic")
    assert chart.to_dict()["description"].startswith("Layers hold neurons specialised")
    with pytest.raises(neuronlake.UnknownNameError, match="tiny"):
        neuronlake.plot_function_map(planted, "tinny")


def test_a_page_goes_to_standard_output_whole(small: Store) -> None:
    command = [sys.executable, "-m", "neuronlake", "--store", str(small.path), "report", "-o", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout[:15], done.stdout[-8:]) == ("<!doctype html>", "</html>\n")
    assert done.stderr.startswith("/dev/stdout: ")
