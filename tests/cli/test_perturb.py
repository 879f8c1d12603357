"""`neuronlake perturb`: studies made, planned and refused on the command line."""

import json
import random
import shutil

import pytest

QUICK = ("--seeds", "2", "--bootstrap", "50", "--permutations", "49", "--energy-ratio", "1e9")
QUERY = "select stack, layer, neuron from neurons where layer = 1 order by neuron limit 9"
WORDS = ("cat", "dog", "river", "water", "sat", "ran", "on", "under", "tree", "house")


def sentences():
    """Return 120 texts with two functions, of which each half has its share."""
    draw = random.Random(5)
    for index in range(120):
        words = draw.choices(WORDS, k=4)
        labels = {"task/animal": {"cat", "dog"} & {*words}, "task/water": {"river", "water"} & {*words}}
        yield {"text": f"{index} {' '.join(words)}", "labels": [name for name, found in labels.items() if found]}


@pytest.fixture(scope="module")
def made_store(succeeds, bert, write_jsonl, tmp_path_factory):
    """Return a store with a run of tiny BERT on sentences and experts drawn at random; not to be written to."""
    folder = tmp_path_factory.mktemp("sentences")
    file = write_jsonl(folder / "sentences.jsonl", list(sentences()))
    succeeds("--store", folder / "store", "corpus", "add", file, "--name", "sentences")
    succeeds("--store", folder / "store", "ingest", bert, "--corpus", "sentences")
    succeeds("--store", folder / "store", "partition", "tiny-bert", "--method", "random", "--experts", "4")
    return folder / "store"


@pytest.fixture
def store(made_store, tmp_path):
    """Return a copy of the store, to be written to."""
    return shutil.copytree(made_store, tmp_path / "store")


@pytest.fixture
def asked(succeeds, store):
    """Return a function that asks SQL of the store and returns the rows."""

    def ask(query):
        return [tuple(row.values()) for row in json.loads(succeeds("--store", store, "sql", query, "--format", "json"))]

    return ask


def test_a_study_is_told_in_one_line_with_a_row_a_dose_and_control(neuronlake, store, bert, asked, contents):
    arguments = ("--store", store, "perturb", bert, "--top", "--dose", "0.1", "--dose", "0.05", *QUICK)
    result = neuronlake(*arguments)
    assert result.exit_code == 0, result.output
    line, header, *rows = result.stdout.splitlines()
    ((perturbation_id, n_cells),) = asked("select perturbation_id, n_cells from perturbation_studies")
    assert line.startswith(f"perturbation {perturbation_id}: tiny-bert main, 2 sources x 2 targets over ")
    # Two sources at two doses, their own and matched ones of two seeds, and random ones of two seeds.
    assert n_cells == 1 + 4 + 8 + 4
    assert f" texts, {n_cells} cells at 0." in line
    assert header.split()[:4] == ["dose", "control", "n_sources", "on_target"]
    for control in ("none", "random", "matched"):
        assert sum(f" {control} " in row for row in rows) == 2
    # A model of random weights reads little: what is at chance is named.
    at_chance = "read no better than chance without an ablation, and left out of selectivity"
    assert [each.partition(":")[0] for each in result.stderr.splitlines()] == [at_chance, "perturbing", "next"]
    before = contents(store)
    again = neuronlake(*arguments)
    assert again.stdout.splitlines()[0].endswith("; already in the store, nothing done")
    assert again.stdout.splitlines()[1:] == [header, *rows]
    assert contents(store) == before


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(succeeds, store, bert, asked, contents):
    arguments = ("--store", store, "perturb", bert, "--top", "--dose", "0.1", *QUICK)
    before = contents(store)
    said = succeeds(*arguments, "--dry-run").splitlines()
    assert contents(store) == before
    assert not list((store / ".staging").glob("*/"))
    assert said[0].endswith(" would be made")
    assert said[1] == "perturbed  neurons of 2 sources, of 128 in the layers studied"
    assert said[2].startswith("read out   2 functions on ")
    assert said[3] == "cells      9 (1 none, 2 top, 2 random, 4 matched), 0 of them known"
    assert said[4].startswith("time       0.")
    succeeds(*arguments)
    ((perturbation_id,),) = asked("select perturbation_id from perturbation_studies")
    again = succeeds(*arguments, "--dry-run").splitlines()
    assert said[0].split()[1] == perturbation_id
    assert again[0] == f"perturbation {perturbation_id} is already in the store: nothing would be done"
    assert again[3].endswith(", 8 of them known")


def test_a_query_of_a_dash_is_read_from_standard_input(succeeds, store, bert, asked):
    arguments = ("--store", store, "perturb", bert, "--query", "-", "--control", "random", *QUICK)
    succeeds(*arguments, standard_input=QUERY + "\n")
    found = asked("select selection, ranking, source_query, kind, n_sources from perturbation_studies")
    assert found == [("query", None, QUERY + "\n", "zero", 1)]
    neurons = asked("select stack, layer, neuron from perturbed_neurons where selection = 'query' order by rank")
    assert neurons == [("encoder", 1, neuron) for neuron in range(9)]


def test_what_is_asked_for_is_what_is_stored(succeeds, store, bert, asked):
    succeeds(
        "--store", store, "perturb", bert, "--top", "--function", "task/water", "--kind", "noise", "--scale", "2",
        "--dose", "0.1", "--layers", "1", "--control", "matched", "--seed", "7", "--texts", "100", "--max-tokens", "5",
        "--batch-tokens", "64", "--readout", "probe", "--corpus", "sentences", "--name", "tiny-bert", "--device", "cpu",
        "--ranking", "predictivity", *QUICK,
    )  # fmt: skip
    assert asked(
        "select ranking, kind, scale, layers, n_layer_neurons, n_sources, n_targets, seed, n_seeds, max_tokens, "
        "batch_tokens, n_bootstrap, n_permutations from perturbation_studies"
    ) == [("predictivity", "noise", 2.0, "1", 64, 1, 2, 7, 2, 5, 64, 50, 49)]
    assert asked("select distinct selection, seed from perturbations order by all") == [
        ("matched", 7), ("matched", 8), ("none", 0), ("top", 7), ("top", 8)
    ]  # fmt: skip


FAILS = {
    "nothing": (("{bert}",), "a study perturbs neurons of a partition, of a query, or top neurons: one of the three"),
    "two": (
        ("{bert}", "--top", "--query", QUERY),
        "a study perturbs neurons of a partition, of a query, or top neurons: one of the three",
    ),
    "model": (("tiny-bart", "--top"), "no model 'tiny-bart' in {store}; did you mean 'tiny-bert'?"),
    "run": (("{bert}", "--top", "--run", "x"), "no run 'x' in {store}; available: "),
    "partition": (("{bert}", "--functional", "x"), "no partition 'x' in {store}; available: "),
    "no functional expert": (
        ("{bert}", "--functional", "{partition}"),
        "partition {partition} has no expert that is functional for a function read out",
    ),
    "corpus": (("{bert}", "--top", "--corpus", "x"), "no corpus 'x' in {store}; available: sentences"),
    "family": (
        ("{bert}", "--top", "--family", "tusk"), "no family 'tusk' in the functions that run {run} measured; did you "
    ),
    "function": (
        ("{bert}", "--top", "--function", "water"), "no function 'water' in the functions that run {run} measured; "
    ),
    "family of a query": (
        ("{bert}", "--query", QUERY, "--family", "task"), "families and functions choose among those of a run; "
    ),
    "layer": (("{bert}", "--top", "--layers", "9"), "run {run} has no layer [9]; it measured [0, 1]"),
    "few texts": (("{bert}", "--top", "--texts", "5"), "no function of corpus sentences has 10 positives "),
    "scale": (("{bert}", "--top", "--scale", "3"), "the kind zero has no scale, 3.0 was given; "),
    "scale of nan": (("{bert}", "--top", "--kind", "noise", "--scale", "nan"), "a perturbation of scale nan is not "),
    "dose of nan": (("{bert}", "--top", "--dose", "nan"), "a dose is nan; doses are shares of neurons"),
    "clamp": (("{bert}", "--top", "--kind", "clamp"), "the kind clamp holds neurons at a column value, which only a "),
    "clamp without value": (
        ("{bert}", "--query", QUERY, "--kind", "clamp"), "the query must have the columns stack, layer, neuron, value; "
    ),
    "route-away of top": (("{bert}", "--top", "--kind", "route-away"), "the kind route-away takes whole native "),
    "route-away of dense": (
        ("{bert}", "--query", QUERY, "--kind", "route-away"), "run {run} has no neurons of native experts in these "
    ),
    "control": (
        ("{bert}", "--top", "--control", "nonfunctional"),
        "the control nonfunctional is not possible: it draws from a partition's experts, and this study has none",
    ),
    "empty query": (("{bert}", "--query", ""), "there is no SQL in the query"),
    "query of nothing": (("{bert}", "--query", f"from ({QUERY}) where neuron > 99"), "the query yields no rows"),
    "query that writes": (("{bert}", "--query", "drop table neurons"), "drop is refused: SQL here only reads"),
    "loss without a head": (("{bert}", "--top", "--readout", "loss"), "model '{bert}' cannot predict tokens: "),
    "random weights": (("{bert}", "--top", "--random-init", "3"), "no revision 'random-3' in tiny-bert in {store}; "),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILS)
def test_a_study_that_cannot_be_made_fails_in_one_line_and_the_store_is_unchanged(
    fails, store, bert, asked, contents, name
):
    ((run, partition),) = asked("select runs.run_id, partition_id from runs, partitions")
    before = contents(store)
    arguments, message = FAILS[name]
    said = fails(
        "--store", store, "perturb", *(each.format(bert=bert, partition=partition[:6]) for each in arguments), *QUICK
    )
    assert said.startswith(message.format(store=store, bert=bert, run=run, partition=partition))
    assert contents(store) == before


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("m", "--top", "--kind", "ablate"),
        ("m", "--top", "--readout", "lens"),
        ("m", "--top", "--control", "other"),
        ("m", "--top", "--dose", "0"),
        ("m", "--top", "--dose", "1.5"),
        ("m", "--top", "--dose", "many"),
        ("m", "--top", "--scale", "-1"),
        ("m", "--top", "--seeds", "0"),
        ("m", "--top", "--seed", "-1"),
        ("m", "--top", "--texts", "0"),
        ("m", "--top", "--layers", "x"),
        ("m", "--top", "--max-tokens", "2"),
        ("m", "--top", "--batch-tokens", "0"),
        ("m", "--top", "--bootstrap", "0"),
        ("m", "--top", "--permutations", "0"),
        ("m", "--topp"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_refused(is_usage_error, arguments):
    assert is_usage_error("perturb", *arguments)


def test_where_there_is_no_store_that_is_said(fails, bert, tmp_path):
    assert str(tmp_path / "gone") in fails("--store", tmp_path / "gone", "perturb", bert, "--top")
    assert not (tmp_path / "gone").exists()
