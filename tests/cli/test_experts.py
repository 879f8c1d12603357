"""`neuronlake partition`, `align` and `describe`, and the co-activation counts of `ingest` that they use."""

import json
import re
import shutil

import pytest
from click.testing import CliRunner

from neuronlake.cli import main


@pytest.fixture(scope="module")
def made_store(made_store, succeeds, bert, tmp_path_factory):
    """Return the store with co-activations added and neurons dealt to experts at random; not to be written to."""
    store = shutil.copytree(made_store, tmp_path_factory.mktemp("experts") / "store")
    succeeds("--store", store, "ingest", bert, "--corpus", "words", "--coactivation")
    succeeds("--store", store, "partition", "tiny-bert", "--method", "random", "--experts", "4")
    return store


@pytest.fixture
def store(made_store, tmp_path):
    """Return a copy of the store, to be written to."""
    return shutil.copytree(made_store, tmp_path / "store")


@pytest.fixture(scope="module")
def random_id(made_store, succeeds):
    """Return the partition_id of the random experts."""
    rows = succeeds("--store", made_store, "sql", "select partition_id from partitions", "--format", "json")
    return json.loads(rows)[0]["partition_id"]


@pytest.fixture
def asked(succeeds, store):
    """Return a function that asks SQL of the store and returns the rows."""

    def ask(query):
        return [tuple(row.values()) for row in json.loads(succeeds("--store", store, "sql", query, "--format", "json"))]

    return ask


QUERY = "select stack, layer, neuron, mean, std from neurons"
METHODS = {
    "kmeans": ("{bert}", "--experts", "4"),
    "kmeans of output weights": ("{bert}", "--experts", "4", "--features", "output", "--no-normalize", "--starts", "2"),
    "kmeans of a query": ("tiny-bert", "--experts", "4", "--query", QUERY),
    "coactivation": ("tiny-bert", "--method", "coactivation", "--experts", "4"),
    "function": ("tiny-bert", "--method", "function", "--experts", "4", "--half", "a"),
    "random": ("tiny-bert", "--method", "random", "--experts", "4", "--seed", "1"),
    "matched": ("tiny-bert", "--method", "random", "--matched", "{random_id}"),
    "uneven": ("tiny-bert", "--method", "random", "--experts", "5", "--layers", "1"),
}


@pytest.mark.parametrize("name", METHODS)
def test_each_method_is_told_in_one_line_and_doing_it_again_as_well(
    succeeds, store, bert, random_id, asked, contents, name
):
    arguments = [each.format(bert=bert, random_id=random_id) for each in METHODS[name]]
    line = succeeds("--store", store, "partition", *arguments)
    ((partition_id, method),) = asked(
        f"select partition_id, method from partitions where partition_id <> '{random_id}'"
    )
    assert method == name.split()[0].replace("uneven", "random")
    layers = "64 neurons of 1 layers" if name == "uneven" else "128 neurons of 2 layers"
    sizes = (
        "5 experts a layer whose sizes differ, 12 to 13 neurons"
        if name == "uneven"
        else "4 experts a layer of 16 neurons"
    )
    assert line.startswith(f"partition {partition_id}: tiny-bert main by {method}, {layers}, {sizes}")
    assert line.count("\n") == 1
    before = contents(store)
    again = succeeds("--store", store, "partition", *arguments)
    assert again.startswith(f"partition {partition_id}: ")
    assert again.endswith("; already in the store, nothing done\n")
    assert contents(store) == before


def test_native_experts_are_those_of_a_mixture(succeeds, tiny_model, corpus_file, tmp_path):
    store = tmp_path / "store"
    succeeds("--store", store, "corpus", "add", corpus_file, "--name", "words")
    succeeds("--store", store, "ingest", tiny_model("olmoe"), "--corpus", "words", "--layers", "0")
    line = succeeds("--store", store, "partition", "tiny-olmoe", "--method", "native")
    assert "tiny-olmoe main by native, 256 neurons of 1 layers, 4 experts a layer of 64 neurons" in line


def test_a_query_of_a_dash_is_read_from_standard_input(succeeds, store, asked):
    succeeds("--store", store, "partition", "tiny-bert", "--experts", "4", "--query", "-", standard_input=QUERY + "\n")
    assert asked("select source_query from partitions where method = 'kmeans'") == [(QUERY + "\n",)]


def test_the_experts_asked_for_are_stored(succeeds, store, asked):
    arguments = ("--method", "random", "--experts", "8", "--layers", "1", "--seed", "7")
    succeeds("--store", store, "partition", "tiny-bert", *arguments)
    assert asked("select layer, n_experts, n_smallest from partition_layers where n_experts = 8") == [(1, 8, 8)]
    assert asked("select seed, model, revision from partitions where n_experts = 8") == [(7, "tiny-bert", "main")]


REFUSED = {
    "no experts": (("tiny-bert", "--method", "random"), "method random needs --experts"),
    "too many": (("tiny-bert", "--method", "random", "--experts", "65"), "65 experts of 64 neurons: encoder layer 0"),
    "features": (
        ("tiny-bert", "--method", "random", "--experts", "4", "--features", "output"),
        "--features means nothing to method random; it is for kmeans",
    ),
    "half": (
        ("tiny-bert", "--method", "coactivation", "--experts", "4", "--half", "a"),
        "--half means nothing to method coactivation; it is for function",
    ),
    "starts": (
        ("tiny-bert", "--method", "random", "--experts", "4", "--starts", "2"),
        "--starts means nothing to method random; it is for kmeans, kmeans of a query, coactivation, function",
    ),
    "normalize": (
        ("tiny-bert", "--method", "native", "--no-normalize"),
        "--normalize means nothing to method native; it is for",
    ),
    "query": (
        ("tiny-bert", "--method", "function", "--experts", "4", "--query", QUERY),
        "--query means nothing to method function; it is for kmeans, kmeans of a query",
    ),
    "random-init": (
        ("tiny-bert", "--method", "random", "--experts", "4", "--random-init", "0"),
        "method random reads the store",
    ),
    "experts of native": (
        ("tiny-bert", "--method", "native", "--experts", "4"), "--experts means nothing to method native"
    ),
    "no native experts": (("tiny-bert", "--method", "native"), "run {run}: no chosen layer of tiny-bert main"),
    "activity": (
        ("tiny-bert", "--method", "coactivation", "--experts", "4", "--activity", "top-0.1"),
        "no activity 'top-0.1' in the coactivations of run {run}; available: positive",
    ),
    "model": (("tiny", "--method", "random", "--experts", "4"), "no model 'tiny' in {store}; did you mean '"),
    "run": (("tiny-bert", "--method", "random", "--experts", "4", "--run", "x"), "no run 'x' in {store}; available: "),
    "partition": (
        ("tiny-bert", "--method", "random", "--matched", "x"), "no partition 'x' in {store}; available: {random_id} "
    ),
    "layer": (
        ("tiny-bert", "--method", "random", "--experts", "4", "--layers", "5"), "no layer [5] to partition; there "
    ),
    "empty query": (("tiny-bert", "--experts", "4", "--query", ""), "there is no SQL in the query"),
    "query without features": (
        ("tiny-bert", "--experts", "4", "--query", "select stack, layer, neuron from neurons"),
        "the query yields no features beside stack, layer and neuron",
    ),
    "unknown column": (
        ("tiny-bert", "--experts", "4", "--query", "select n_experts from runs"),
        'Binder Error: Referenced column "n_experts" not found',
    ),
    "query of nothing": (
        ("tiny-bert", "--experts", "4", "--query", f"{QUERY} where layer > 9"), "the query yields no rows"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_method_has_no_use_for_fails_in_one_line_and_the_store_is_unchanged(
    fails, store, asked, random_id, contents, name
):
    ((run,),) = asked("select run_id from runs")
    before = contents(store)
    arguments, message = REFUSED[name]
    said = fails("--store", store, "partition", *arguments)
    assert said.startswith(message.format(run=run, store=store, random_id=random_id))
    assert contents(store) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("partition", "tiny-bert", "--experts", "0"),
        ("partition", "tiny-bert", "--method", "spectral"),
        ("partition",),
        ("align",),
        ("align", "1", "--permutations", "0"),
        ("align", "1", "--bins", "0"),
        ("align", "1", "--seed", "-1"),
        ("describe", "expert", "1", "--layer", "0"),
        ("describe", "expert", "1", "--layer", "-1", "--expert", "0"),
        ("describe", "neuron", "tiny-bert", "--neuron", "0"),
        ("describe", "neuron", "tiny-bert", "--layer", "0", "--neuron", "0", "--stack", "middle"),
        ("ingest", "tiny-bert", "--corpus", "words", "--partners", "3"),
        ("ingest", "tiny-bert", "--corpus", "words", "--active-share", "0.1"),
        ("ingest", "tiny-bert", "--corpus", "words", "--coactivation", "--partners", "0"),
        ("ingest", "tiny-bert", "--corpus", "words", "--coactivation", "--active-share", "1"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_refused(is_usage_error, arguments):
    assert is_usage_error(*arguments)


@pytest.mark.parametrize("option", [("--partners", "3"), ("--active-share", "0.1")], ids=" ".join)
def test_an_option_of_coactivation_without_it_is_wrong_usage(is_usage_error, option):
    said = is_usage_error("ingest", "tiny-bert", "--corpus", "words", *option)
    assert said == "--partners and --active-share are of the counts that --coactivation stores"


def test_coactivations_are_added_to_a_run_that_is_there_once(succeeds, store, bert, asked, contents):
    arguments = ("--store", store, "ingest", bert, "--corpus", "words", "--coactivation")
    before = contents(store)
    assert succeeds(*arguments).endswith("; already in the store with coactivations (positive), nothing done\n")
    assert contents(store) == before
    line = succeeds(*arguments, "--active-share", "0.5", "--partners", "3")
    assert line.endswith(" s\n")
    assert "already in the store, coactivations (top-0.5) added" in line
    found = asked("select activity, count(*) <= 2 * 64 * 3, max(n_active) from coactivations group by all order by 1")
    assert found == [("positive", False, 9), ("top-0.5", True, 4)]
    # Which of the two is meant is then to be said.
    succeeds(
        "--store",
        store,
        "partition",
        "tiny-bert",
        "--method",
        "coactivation",
        "--experts",
        "4",
        "--activity",
        "positive",
    )


def test_other_partners_of_coactivations_that_are_there_fail_in_one_line(fails, store, bert, contents):
    before = contents(store)
    said = fails("--store", store, "ingest", bert, "--corpus", "words", "--coactivation", "--partners", "3")
    assert "with up to 32 partners a neuron; 3 cannot stand beside them" in said
    assert contents(store) == before


def test_a_share_that_is_no_number_fails_in_one_line(fails, store, bert):
    said = fails("--store", store, "ingest", bert, "--corpus", "words", "--coactivation", "--active-share", "nan")
    assert said == "--active-share is nan; it must be above 0 and below 1"


def test_an_alignment_is_told_in_one_line_with_its_progress_beside_it_and_stored_once(
    neuronlake, succeeds, store, random_id, asked, contents
):
    arguments = ("--store", store, "align", random_id[:6], "--permutations", "99", "--bins", "2", "--seed", "3")
    result = neuronlake(*arguments)
    assert result.exit_code == 0
    ((alignment_id, run_id),) = asked("select distinct alignment_id, run_id from alignments")
    start = f"alignment {alignment_id}: partition {random_id} on run {run_id}, by lift"
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{start}, 32 tests in 2 layers, free and matched null, 99 permutations, ")
    assert [each.partition(":")[0] for each in result.stderr.splitlines()] == ["aligning", "next"]
    # In a model this small no neuron is on two lists, so that nothing is left to permute.
    assert asked("select distinct n_permutations, seed from alignments") == [(None, 3)]
    levels = asked("select level, count(*) from alignment_tests where half = 'all' group by all order by all")
    assert levels == [("family", 32), ("function", 32)]
    before = contents(store)
    assert succeeds(*arguments) == f"{start}; already in the store, nothing done\n"
    assert contents(store) == before


def test_alignments_by_either_ranking_stand_side_by_side(succeeds, store, random_id, asked):
    for ranking in ("lift", "predictivity"):
        said = succeeds("--store", store, "align", random_id, "--permutations", "98", "--ranking", ranking)
        assert f", by {ranking}, 32 tests in 2 layers, " in said
    assert asked("select distinct ranking from alignment_tests order by 1") == [("lift",), ("predictivity",)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x",), "no partition 'x' in {store}; available: {random_id} (tiny-bert, main, random, 4)"),
        (("{random_id}", "--run", "x"), "no run 'x' in {store}; available: "),
    ],
    ids=["partition", "run"],
)
def test_an_alignment_of_what_is_not_there_fails_in_one_line(fails, store, random_id, contents, arguments, message):
    before = contents(store)
    said = fails("--store", store, "align", *(each.format(random_id=random_id) for each in arguments))
    assert said.startswith(message.format(store=store, random_id=random_id))
    assert contents(store) == before


def test_an_expert_and_a_neuron_are_described(succeeds, store, bert, random_id):
    expert = succeeds("--store", store, "describe", "expert", random_id[:6], "--layer", "1", "--expert", "2")
    assert expert.startswith(f"expert 2 of encoder layer 1, partition {random_id}: random, 4 experts a layer, ")
    made = succeeds("--store", store, "partition", bert, "--experts", "4").removeprefix("partition ")[:16]
    neuron = succeeds("--store", store, "describe", "neuron", "tiny-bert", "--layer", "0", "--neuron", "9")
    assert neuron.startswith("neuron 9 of encoder layer 0, tiny-bert main, run ")
    assert re.search(rf"experts it is in \(random ones excluded\)\n.*\n{made} +kmeans +4 +\d\n$", neuron)


def test_cards_show_tokens_in_colour_on_a_terminal(succeeds, store, bert, asked):
    ask = ("--store", store, "ingest", bert, "--corpus", "words", "--highlights", "--vocabulary")
    assert "highlights    about" in succeeds(*ask, "--dry-run")
    assert "already in the store, highlights added, vocabulary added, " in succeeds(*ask)
    assert "nothing done" in succeeds(*ask)
    layer, neuron = asked("select layer, neuron from top_tokens limit 1")[0]
    card = ("--store", str(store), "describe", "neuron", "tiny-bert", "--layer", str(layer), "--neuron", str(neuron))
    plain = succeeds(*card)
    assert "«" in plain
    assert "\x1b" not in plain
    drawn = CliRunner().invoke(main, card, color=True).stdout
    assert re.search("\x1b\\[33m\x1b\\[1m«[^»]+»\x1b\\[0m", drawn)
    assert CliRunner(env={"NO_COLOR": "1"}).invoke(main, card, color=True).stdout == plain
    assert "neurons that read it most" in succeeds("--store", store, "describe", "word", "river")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("expert", "x", "--layer", "0", "--expert", "0"), "no partition 'x' in "),
        (("word", "cat", "--run", "x"), "no run 'x' in "),
        (("expert", "{random_id}", "--layer", "0", "--expert", "4"), "partition {random_id} has no expert 4 in "),
        (("neuron", "tiny", "--layer", "0", "--neuron", "0"), "no model 'tiny' in "),
        (("neuron", "tiny-bert", "--layer", "7", "--neuron", "0"), "run {run} has no neuron 0 in encoder layer 7; "),
        (("neuron", "tiny-bert", "--layer", "0", "--neuron", "0", "--revision", "x"), "no revision 'x' in tiny-bert "),
        (("neuron", "tiny-bert", "--layer", "0", "--neuron", "0", "--run", "x"), "no run 'x' in "),
    ],
    ids=["partition", "run of a word", "expert", "model", "layer", "revision", "run"],
)  # fmt: skip
def test_a_card_of_what_is_not_there_fails_in_one_line(fails, store, asked, random_id, arguments, message):
    ((run,),) = asked("select run_id from runs")
    said = fails("--store", store, "describe", *(each.format(random_id=random_id) for each in arguments))
    assert said.startswith(message.format(random_id=random_id, run=run))


@pytest.mark.parametrize(
    "arguments",
    [
        ("partition", "tiny-bert", "--method", "random", "--experts", "4"),
        ("align", "1"),
        ("describe", "expert", "1", "--layer", "0", "--expert", "0"),
        ("describe", "neuron", "tiny-bert", "--layer", "0", "--neuron", "0"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_where_there_is_no_store_that_is_said(fails, tmp_path, arguments):
    assert str(tmp_path / "gone") in fails("--store", tmp_path / "gone", *arguments)
    assert not (tmp_path / "gone").exists()


def test_help_says_what_there_is(succeeds):
    said = " ".join(succeeds("partition", "--help").split())
    for part in (
        "[kmeans|coactivation|function|random|native]",
        "--matched PARTITION",
        "'-' for standard input",
        "MoEfication",
    ):
        assert part in said
    assert "alignment_tests and held_out_experts" in " ".join(succeeds("align", "--help").split())
    said = succeeds("describe", "--help")
    for command in ("expert", "neuron", "word"):
        assert f"\n  {command} " in said
