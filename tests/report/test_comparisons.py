"""What sentences compare with, and what they leave out: rows drawn without a store, and small stores."""

import inspect
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from queries.small_partitions import add_partition
from queries.small_runs import add_run
from queries.small_tables import table

from neuronlake.cli import main
from neuronlake.queries.database import Database
from neuronlake.report.page import measured, pictures_of, write_report
from neuronlake.report.picture import PICTURES, Subject, _typeset, _written, find_subjects, told_apart
from neuronlake.schema.store import Store

SUBJECT = Subject("tiny", "main", "words", "a" * 16, None, False, (), (), 8, 1, 1, None, 0, None)
RANDOM = replace(SUBJECT, is_random_init=True)


def sentence(name: str, rows: pl.DataFrame, subject: Subject = SUBJECT) -> str:
    draw = inspect.getclosurevars(PICTURES[name]).nonlocals["draw"]
    return draw(rows, subject)[1]


def experts(proportion: float) -> pl.DataFrame:
    groups = ["experts", "random groups", "matched groups"]
    shared = {"stack": "encoder", "layer": 0, "family": "f", "enrichment": 0.0, "n_pairs": 100, "method": "kmeans"}
    rows = {"groups": groups, "proportion": [proportion, 0.0, 0.0], "n_significant": [2.0, 0.0, 0.0]}
    return pl.DataFrame(rows).with_columns(n_experts=4, **{name: pl.lit(value) for name, value in shared.items()})


@pytest.mark.parametrize(("n_functional", "is_claimed"), [(0, False), (1, False), (2, False), (8, True)])
def test_a_few_functional_experts_beside_none_of_the_groups_are_luck(n_functional: int, is_claimed: bool) -> None:
    assert sentence("experts", experts(n_functional / 100)).startswith("Experts are") == is_claimed
    assert "specialised" not in sentence("experts", experts(n_functional / 100), RANDOM)


def found(database: Database, name: str, subject: Subject) -> dict[str, object] | None:
    """Return the first row of a statement about a subject."""
    return next(iter(database.sql(_written(name, subject.parameters))), None)


def test_experts_made_of_scores_are_not_pictured(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    groups = np.arange(200).reshape(1, 200) // 50
    add_partition(store, "1" * 16, groups, method="function")
    add_partition(store, "2" * 16, groups, method="query", half="a")
    assert found(Database(store), "report_partition", SUBJECT) is None
    add_partition(store, "3" * 16, groups, method="coactivation")
    assert found(Database(store), "report_partition", SUBJECT) == {"partition_id": "3" * 16}


def small(folder: Path, **settings: object) -> Store:
    """Commit a run of one layer: ten functions that all neurons tell apart, and two of a family without halves."""
    store, functions = Store(folder), (*(("a", f"x{n}") for n in range(10)), ("b", "x0"), ("b", "y"))
    shape = (1, 40, 12)
    lift = np.random.default_rng(0).uniform(0.3, 0.6, shape)
    scores = {"p_value": np.full(lift.size, 1e-8, np.float32)}
    lift[..., 10:] = np.nan
    for half in "ab":
        scores[f"ap_half_{half}"] = [None if np.isnan(each) else 0.5 + each / 2 for each in lift.ravel()]
        scores[f"ap_complement_half_{half}"] = [None if np.isnan(each) else 0.5 - each / 2 for each in lift.ravel()]
    shared = {"functions": functions, "prevalence": (0.5,) * 12, "n_layers": 1, "n_neurons": 40, "scores": scores}
    add_run(store, "a" * 16, **{**shared, **settings})
    best = {
        "run_id": "a" * 16, "model": "tiny", "revision": "main", "step": None, "control": "word", "draw": 0,
        "stack": "encoder", "layer": 0, "neuron": 0, "family": "a", "function": "x0", "n_functions": 8, "ap": 0.9,
        "ap_complement": 0.1, "p_value": 0.1, "held_out_function": "x0", "held_out_evidence": 3.0,
        "held_out_lift": 0.9, "second_function": None, "second_ap": None, "second_ap_complement": None,
        "lift_error": None,
    }  # fmt: skip
    with store.job("controls", kind="controls") as job:
        job.write("control_best", table("control_best", 1, best))
        job.commit()
    return store


def test_cells_without_a_control_are_compared_with_nothing(tmp_path: Path) -> None:
    database = Database(small(tmp_path / "store"))
    (subject,) = find_subjects(database)
    found = {picture.name: picture for picture in pictures_of(database, subject)}
    rows = found["function-map"].rows
    assert rows.filter(pl.col("control_lift").is_null())["difference"].count() == 0
    assert rows.filter(function="x0")["difference"].item() < 0
    assert re.match(r"0 of 1 function .* left out: no more than a coin", found["function-map"].sentence)
    # Neurons whose best function is of a family without halves count too.
    n = database.sql("select count(*) from specialization where is_significant").rows()[0][0]
    assert n == 40
    assert "40 of 40 neurons (100%) stand out" in found["specialised-neurons"].sentence


def test_a_random_initialisation_alone_is_not_called_trained(tmp_path: Path) -> None:
    database = Database(small(tmp_path / "store", is_random_init=True, revision="random-0"))
    (subject,) = find_subjects(database)
    for picture in pictures_of(database, subject):
        assert "trained" not in picture.sentence
        assert "specialised" not in picture.sentence.replace("no specialisation", "")
        if "measured" in picture.rows.columns:
            assert "trained" not in set(picture.rows["measured"])


def test_functions_without_a_control_leave_the_test_of_checkpoints() -> None:
    rows = pl.DataFrame(
        {"step": step, "family": f"f{n}", "function": f"g{n}", "lift": 0.1 + n / 100, "random_lift": None,
         "control_lift": 0.5 if n == 0 else None}
        for step in (1, 2) for n in range(9)
    ).cast({"random_lift": pl.Float64})  # fmt: skip
    said = sentence("training", rows)
    assert said.startswith("No specialisation is shown")
    assert "of 9 families the 6 with the highest are drawn" in said
    assert "for f8" in said
    assert "for f0" not in said
    assert sentence("training", rows.with_columns(control_lift=0.0)).startswith("Neurons are specialised from step 1")


def routing(random_difference: float | None) -> pl.DataFrame:
    return pl.DataFrame(
        {"stack": "encoder", "layer": 0, "native_expert": 0, "family": "f", "function": f"g{n}", "share_positive": 0.5,
         "share_negative": 0.2, "difference": 0.3, "random_difference": random_difference, "q_value": 0.001}
        for n in range(8)
    ).cast({"random_difference": pl.Float64})  # fmt: skip


def test_a_router_is_specialised_only_beyond_a_random_one() -> None:
    assert sentence("routing", routing(0.0)).startswith("The router is specialised")
    assert sentence("routing", routing(0.3)).startswith("No specialisation is shown")
    assert "is claimed: 8 of 8 pairs" in sentence("routing", routing(None))


def test_a_study_that_reads_out_no_source_has_a_sentence() -> None:
    rows = pl.DataFrame(
        {"dose": [0.1], "control": ["matched"], "source_family": ["a"], "source": ["x"], "target_family": ["b"],
         "target": ["x"], "is_on_target": [False], "difference": [0.1], "is_significant": [True]}
    )  # fmt: skip
    assert "which is not read out" in sentence("perturbed-functions", rows)
    apart = told_apart(rows, source="source_family", target="target_family")
    assert apart.select("source", "target").row(0) == ("a/x", "b/x")
    assert told_apart(rows, source="source_family")["source"].item() == "x"


def test_a_study_is_shown_of_its_run_and_missing_says_what_the_store_lacks(planted: Database) -> None:
    (subject,) = find_subjects(planted)
    assert found(planted, "report_study", subject)
    assert found(planted, "report_study", replace(subject, run_id="0" * 16)) is None
    of_family = replace(subject, family="knowledge")
    assert found(planted, "report_study", of_family) is None
    assert "no ablations" not in measured(planted, [of_family], [])
    assert PICTURES["dose-curves"](planted, subject)
    assert PICTURES["dose-curves"](planted, replace(subject, family="semantic")) is None


def test_revisions_left_out_are_named_and_names_in_commands_are_quoted(tmp_path: Path) -> None:
    store, model = Store(tmp_path / "store"), "my model; x"
    for number, revision in enumerate(("main", "v1", "v 2")):
        add_run(store, f"{number:016x}", model=model, revision=revision, weights=revision, n_layers=1)
    database = Database(store)
    (subject,) = find_subjects(database)
    section = measured(database, [subject], [])
    assert "2 other revisions, v 2, v1" in section or "2 other revisions, v1, v 2" in section
    assert "partition &#x27;my model; x&#x27; --experts 16" in section
    page = write_report(database, tmp_path / "report.html").read_text()
    assert f"{shlex.quote(model)} --run {subject.run_id}" in page
    assert [path.name for path in tmp_path.iterdir() if path.name != "store"] == ["report.html"]


def test_a_name_keeps_its_hyphens() -> None:
    assert _typeset("a = b -c --controls (p = 0.1)") == "a = b -c --controls (p\u00a0=\u00a00.1)"


def test_figures_of_nothing_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    options = ["--store", str(tmp_path / "store"), "report", "--figures", str(tmp_path / "figures")]
    result = CliRunner().invoke(main, options)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "nothing to picture" in result.stderr
