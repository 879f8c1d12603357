"""`neuronlake emergence`: studies made, shown in tables and refused on the command line."""

import json
import random
import shutil
from collections import defaultdict
from statistics import fmean

import pytest

WORDS = ("cat", "dog", "river", "water", "sat", "ran", "on", "under", "tree", "house")
STEPS = (0, 10, 100)
QUICK = ("--experts", "4", "--seeds", "2", "--random", "2", "--starts", "1")


def sentences():
    """Return 60 texts with three functions of two families, of which each half has its share."""
    draw = random.Random(5)
    for index in range(60):
        words = draw.choices(WORDS, k=4)
        labels = {
            "task/animal": {"cat", "dog"} & {*words},
            "task/water": {"river", "water"} & {*words},
            "form/verb": {"sat", "ran"} & {*words},
        }
        yield {"text": f"{index} {' '.join(words)}", "labels": [name for name, found in labels.items() if found]}


@pytest.fixture(scope="module")
def series(bert, tmp_path_factory):
    """Return a folder of three checkpoints of tiny BERT, of ever larger weights; not to be written to."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("checkpoints") / "growing"
    weights = load_file(bert / "model.safetensors")
    for step in STEPS:
        shutil.copytree(bert, folder / f"step{step}")
        grown = {name: each + 0.3 * each.roll(1) * step**0.5 / 10 for name, each in weights.items()}
        save_file(grown, folder / f"step{step}" / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def made_store(succeeds, series, write_jsonl, tmp_path_factory):
    """Return a store with a run of each checkpoint; not to be written to."""
    folder = tmp_path_factory.mktemp("sentences")
    file = write_jsonl(folder / "sentences.jsonl", list(sentences()))
    succeeds("--store", folder / "store", "corpus", "add", file, "--name", "sentences")
    for step in STEPS:
        succeeds("--store", folder / "store", "ingest", series, "--revision", f"step{step}", "--corpus", "sentences")
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


def test_a_study_is_shown_in_three_tables_and_the_same_again_prints_them_again(
    neuronlake, store, series, asked, contents
):
    arguments = ("--store", store, "emergence", series, *QUICK, "--threshold", "0.6", "--threshold", "0.95")
    result = neuronlake(*arguments)
    assert result.exit_code == 0, result.output
    first, *tables = result.stdout.split("\n\n")
    ((emergence_id,),) = asked("select emergence_id from emergence_studies")
    assert first.startswith(
        f"emergence {emergence_id}: growing on sentences, 3 checkpoints, step 0 to 100, 4 experts a "
    )
    assert [each.split()[0] for each in tables] == ["By", "Partitions:", "Settled:"]
    by_step, agreement, settled = ([line.split() for line in each.splitlines()] for each in tables)
    assert [row[0] for row in by_step[-3:]] == [row[0] for row in agreement[-3:]] == ["0", "10", "100"]
    # To the last and the one before, uncorrected and corrected, of each family and threshold.
    assert [row[:5] for row in settled[-16:]] == [
        [reference, is_corrected, "encoder", family, threshold]
        for reference in ("last", "previous") for is_corrected in ("false", "true")
        for family in ("form", "task") for threshold in ("0.6", "0.95")
    ]  # fmt: skip
    phases = ["partitioning checkpoints", "comparing checkpoints"]
    assert [each.partition(":")[0] for each in result.stderr.splitlines()] == [*phases, "next"]
    before = contents(store)
    again = neuronlake(*arguments)
    assert again.stdout.splitlines()[0].endswith("; already in the store, nothing done")
    assert again.stdout.split("\n\n")[1:] == tables
    assert contents(store) == before


@pytest.mark.slow
def test_scores_by_step_are_means_over_functions_and_layers(succeeds, store, series, asked):
    tables = succeeds("--store", store, "emergence", series, *QUICK).split("\n\n")
    shown = [[float(each) for each in line.split()] for line in tables[1].splitlines()[-3:]]
    best = defaultdict(list)
    for step, neurons in asked("select step, list(predictivity) from neuron_scores group by step, layer, function"):
        best[step].append(max(neurons))
    held_out = defaultdict(list)
    # On the other half, of the neuron that is best on one.
    for step, *chosen in asked(
        "select step, arg_max(held_out_lift_b, (lift_half_a, -neuron)), arg_max(held_out_lift_a, (lift_half_b, "
        "-neuron)) from neuron_scores group by step, layer, function"
    ):
        held_out[step] += chosen
    specialised = asked(
        "select step, avg(lift), avg((q_value <= .05)::int) from specialization group by step order by step"
    )
    for (step, *values), (_, lift, significant) in zip(shown, specialised, strict=True):
        assert (len(best[step]), len(held_out[step])) == (2 * 3, 2 * 3 * 2)
        expected = [fmean(best[step]), fmean(held_out[step]), lift, significant]
        assert values[:4] == pytest.approx(expected, abs=6e-5)


@pytest.mark.slow
def test_what_is_asked_for_is_what_is_stored(succeeds, store, series, asked):
    said = succeeds(
        "--store", store, "emergence", series, "--method", "kmeans", "--features", "output", "--layers", "1",
        "--seed", "7", "--corpus", "sentences", "--name", "growing", "--ranking", "predictivity", *QUICK,
    )  # fmt: skip
    assert "(its top neurons by predictivity)" in " ".join(said.split())
    ((method, n_experts, n_seeds, n_random, seed, parameters),) = asked(
        "select method, n_experts, n_seeds, n_random, seed, parameters from emergence_studies"
    )
    assert (method, n_experts, n_seeds, n_random, seed) == ("kmeans", 4, 2, 2, 7)
    assert json.loads(parameters) == {"layers": [1], "features": "output", "n_starts": 1, "normalize": True}
    layers = "emergence_partitions as made inner join partition_layers using (partition_id)"
    assert asked(f"select distinct role, made.seed, layer from {layers} order by all") == [
        *((role, seed, 1) for role in ("cold", "matched", "random") for seed in (7, 8)), ("warm", 7, 1)
    ]  # fmt: skip


@pytest.mark.slow
def test_a_study_without_groups_has_no_columns_of_them(succeeds, store, series):
    tables = succeeds("--store", store, "emergence", series, "--experts", "4", "--starts", "1", "--random", "0")
    _, by_step, _, settled = (section.splitlines() for section in tables.split("\n\n"))
    assert by_step[-4].split()[-2:] == ["functional_experts", "degree"]
    assert [len(line.split()) for line in by_step[-3:]] == [7, 7, 7]
    (header,) = (line.split() for line in settled if line.startswith("compared_to"))
    assert not {"random", "matched"} & {*header}


def test_a_partition_starts_from_another(succeeds, store, bert, asked):
    succeeds("--store", store, "partition", bert, "--experts", "4")
    ((cold,),) = asked("select partition_id from partitions")
    succeeds("--store", store, "partition", bert, "--experts", "4", "--warm-start", cold[:8])
    ((parameters,),) = asked(f"select parameters from partitions where partition_id != '{cold}'")
    assert json.loads(parameters)["warm_start"] == cold


FAILS = {
    "no experts": (("{series}",), "method kmeans needs --experts: how many experts a layer has"),
    "experts of native": (("growing", "--method", "native", "--experts", "4"), "--experts means nothing to method "),
    "no native experts": (("growing", "--method", "native"), "run {run}: no chosen layer of growing step100 has "),
    "no coactivations": (("growing", "--method", "coactivation", "--experts", "4"), "run "),
    "model": (("grown", "--experts", "4"), "no series of checkpoints of the model 'grown' in {store}; did you mean "),
    "corpus": (("{series}", "--experts", "4", "--corpus", "x"), "no corpus 'x' in the series of growing in {store}; "),
    "run": (("{series}", "--experts", "4", "--run", "x"), "no run of a series 'x' in {store}; available: {run} ("),
    "model that is not there": (("growing", "--experts", "4"), "checkpoint step0 (step 0) of growing cannot be "),
    "layer": (("{series}", "--experts", "4", "--layers", "7"), "no layer 7 in run {run} of growing step100; it "),
    "experts": (("{series}", "--experts", "65"), "65 experts of 64 neurons: encoder layer 0 of growing step0 has no "),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILS)
def test_a_study_that_cannot_be_made_fails_in_one_line_and_the_store_is_unchanged(
    fails, store, series, asked, contents, name
):
    ((run,),) = asked("select run_id from runs order by step desc limit 1")
    before = contents(store)
    arguments, message = FAILS[name]
    said = fails("--store", store, "emergence", *(each.format(series=series) for each in arguments))
    assert said.startswith(message.format(store=store, run=run))
    assert contents(store) == before


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("m", "--method", "random"),
        ("m", "--experts", "0"),
        ("m", "--seeds", "1"),
        ("m", "--random", "-1"),
        ("m", "--seed", "-1"),
        ("m", "--starts", "0"),
        ("m", "--layers", "x"),
        ("m", "--features", "key"),
        ("m", "--threshold", "0.55"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_refused(is_usage_error, arguments):
    assert is_usage_error("emergence", *arguments)


def test_where_there_is_no_store_that_is_said(fails, series, tmp_path):
    assert str(tmp_path / "gone") in fails("--store", tmp_path / "gone", "emergence", series, "--experts", "4")
    assert not (tmp_path / "gone").exists()
