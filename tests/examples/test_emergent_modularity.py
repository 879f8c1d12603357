"""The paper's exhibits: on stand-ins from end to end, and the page that describes them."""

import csv
import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import duckdb
import polars as pl
import pytest
from click.testing import CliRunner

import neuronlake

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "paper"
EXHIBITS = tomllib.loads((FOLDER / "exhibits.toml").read_text())
STATUS = "not run on the published weights"


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / "emergent_modularity.py"), *options]
    own = {**os.environ, "PYTHONPATH": str(ROOT / ".src"), "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run(command, env=own, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return the folder of all exhibits on stand-ins."""
    folder = tmp_path_factory.mktemp("paper") / "exhibits"
    done = run("--stand-ins", "--out", str(folder))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert STATUS in done.stdout.splitlines()[-1]
    return folder


def rows(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(folder / f"{name}.csv", infer_schema_length=None)


def test_the_exhibits_are_those_of_the_paper() -> None:
    assert list(EXHIBITS) == [
        *("figure-1-left", "figure-1-right", "table-1", "table-4", "figure-2a", "figure-2b", "table-3", "figure-4"),
    ]


def test_each_value_of_the_authors_has_a_source_and_an_exhibit() -> None:
    with (FOLDER / "authors.csv").open(newline="") as file:
        values = list(csv.DictReader(file))
    assert {row["exhibit"] for row in values} == set(EXHIBITS)
    assert all(row["source"] and row["model"] in ("T5", "Switch") for row in values)
    assert all(row["authors"] or row["authors_control"] for row in values)
    assert len({(row["exhibit"], row["model"], row["quantity"], row["x"]) for row in values}) == len(values)


def test_the_page_shows_the_sql_that_runs_and_says_that_the_published_weights_were_not_run() -> None:
    text = (ROOT / "docs" / "paper.md").read_text()
    assert STATUS in text.lower()
    shown = re.findall(r"```sql\n(.*?)\n```", text, re.DOTALL)
    assert shown == [(FOLDER / f"{name}.sql").read_text().rstrip() for name in EXHIBITS]
    for name, exhibit in EXHIBITS.items():
        assert f"## {exhibit['title']}\n" in text
        assert f"--exhibit {name}\n" in text


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> click.Command:
    """Return the example's command, for this process."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module("emergent_modularity").main


def test_without_corpora_the_published_models_are_refused(tmp_path, main) -> None:
    done = CliRunner().invoke(main, ["--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "--semcor and --trex" in done.stderr


def test_without_a_network_the_published_models_are_one_clear_line(tmp_path, shared, main, monkeypatch) -> None:
    import datasets

    assert datasets.config.HF_DATASETS_OFFLINE
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    corpora = shared / "corpora"
    where = ("--semcor", str(corpora / "semcor3.0"), "--trex", str(corpora / "trex"))
    done = CliRunner().invoke(main, ["--out", str(tmp_path), "--exhibit", "figure-1-left", *where])
    assert (done.exit_code, type(done.exception)) == (1, SystemExit)
    assert "Traceback" not in done.stderr
    assert "nyu-mll/glue" in done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXHIBITS)
def test_an_exhibit_has_sql_that_runs_a_picture_and_a_part_of_the_page(name: str, made: Path) -> None:
    query = (made / f"{name}.sql").read_text()
    if name == "table-3":
        with duckdb.connect(config={"file_search_path": str(made)}) as connection:
            found = connection.sql(query).pl()
    else:
        found = neuronlake.open(made / ("series-store" if name == "figure-4" else "store")).sql(query).pl()
    assert len(found) == len(rows(made, name)) > 0
    assert found["ours"].count() > len(found) // 2
    picture = (made / f"{name}.svg").read_text()
    assert picture.startswith("<svg")
    assert picture.count("<path") > 20
    text = (made / "paper.md").read_text()
    assert STATUS in text.splitlines()[2]
    assert f"![{EXHIBITS[name]['title']}]({name}.svg)" in text
    assert f"--exhibit {name} --out exhibits" in text
    assert str(made) not in text


@pytest.mark.slow
def test_the_authors_values_stand_beside_ours(made: Path) -> None:
    lines = [line for line in (made / "paper.md").read_text().splitlines() if line.startswith("| stand-in-")]
    assert any("0.840 | 0.701" in line and "semantic" in line for line in lines)  # figure 1, left
    assert any("0.589 | 0.837" in line and "neurons of qqp" in line for line in lines)  # figure 2a
    assert any("0.562 | 0.509 | 0.539" in line and "mnli" in line for line in lines)  # table 3
    assert any("20000" in line and "semantic: experts" in line for line in lines)  # figure 4
    assert any("not known as a number" in line for line in lines)


@pytest.mark.slow
def test_what_is_measured_of_stand_ins_is_what_they_were_trained_for(made: Path) -> None:
    best = rows(made, "figure-1-left").filter(pl.col("x").is_null(), quantity="task")
    assert (best["held_out"] > best["control_held_out"] + 0.1).all()
    perturbed = rows(made, "figure-2a").filter(pl.col("quantity").str.starts_with("neurons of "))
    assert (perturbed["intact"] > 0.7).all()
    assert {round(dose, 4) for dose in perturbed["x"]} == {0.0208, 0.0625, 0.125}
    few_shot = pl.read_csv(made / "few-shot.csv")
    assert few_shot.filter(strategy="functional")["n_layers"].max() > 0
    assert few_shot["accuracy"].is_between(0, 1).all()
    series = rows(made, "figure-4").filter(pl.col("x").is_not_null())
    assert series["ours"].is_between(-1, 1).all()


@pytest.mark.slow
def test_made_again_nothing_is_measured_anew(made: Path) -> None:
    done = run("--stand-ins", "--out", str(made), "--exhibit", "figure-2a")
    assert done.returncode == 0
    assert done.stdout.count("nothing done") >= 6
