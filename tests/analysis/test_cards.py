"""Cards of neurons and experts: they say what SQL says."""

import re
import shutil

import polars as pl
import pytest

from neuronlake.analysis import cards
from neuronlake.analysis.cards import describe_expert, describe_neuron
from neuronlake.analysis.partitions.job import partition_model
from neuronlake.analysis.partitions.settings import PartitionSettings
from neuronlake.analysis.published import import_scores
from neuronlake.errors import AnalysisError, UnknownNameError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance, Source
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Settings
from neuronlake.queries.database import Database

# Long texts, so that they are cut: of words that are tokens, most in front of the span or most behind it.
BEFORE, AFTER = (
    "the cat sat under the old tree near the house " * 3,
    " and a dog ran over the red stone in the city" * 3,
)
WIDTH = 110


def spans():
    """Yield instances: short texts, with a span and without, and long ones."""
    for index, word in enumerate(("cat", "dog", "bird", "fish", "king", "queen", "song", "stone")):
        labels = {"task/animal": index < 4}
        text = f"a {word} sat\non  the mat"
        yield Instance(text, labels, 2, 2 + len(word))
        yield Instance(f"the {word} ran", labels)
        yield Instance(f"{BEFORE}{word}", labels, len(BEFORE), len(BEFORE) + len(word))
        yield Instance(f"{word}{AFTER}", labels)


@pytest.fixture(scope="module")
def described(tiny_model, tmp_path_factory):
    """Return a store with a tiny model measured on texts and spans, in four experts; not to be written."""
    folder = tmp_path_factory.mktemp("described") / "store"
    build_corpus(Source(spans(), "a test", None, "test: literals", "rest"), "spans", store=folder)
    ingest_model(str(tiny_model("bert")), corpus="spans", store=folder, settings=Settings(n_top=32))
    partition_model("tiny-bert", store=folder, settings=PartitionSettings("function", n_experts=4))
    return folder


@pytest.fixture(scope="module")
def database(described):
    return Database(described)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Return a database of published scores of 400 neurons, the best four for one function in one expert of eight."""
    folder = tmp_path_factory.mktemp("imported")
    rows = [
        {"layer": 0, "neuron": neuron, "family": family, "function": function, "score": neuron * by}
        for family, function, by in (("task", "high", 0.001), ("other", "low", -0.001))
        for neuron in range(400)
    ]
    pl.DataFrame(rows).with_columns(expert=pl.col("neuron") // 50).write_parquet(folder / "scores.parquet")
    import_scores(
        folder / "scores.parquet", store=folder / "store", model="theirs", stack="encoder", score="score",
        partition="expert",
    )  # fmt: skip
    return Database(folder / "store")


def only(database, query):
    """Return the only value that a query gives."""
    ((value,),) = database.sql(query).rows()
    return value


def section(card, title):
    """Return the lines below the title, up to an empty one."""
    lines = card.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(title))
    rest = lines[start + 1 :]
    return [line.strip() for line in (rest[: rest.index("")] if "" in rest else rest)]


def rows(card, title):
    """Return the cells of each row of the table below the title, without its header."""
    return [cells(line) for line in section(card, title)[1:]]


def cells(line):
    return re.split(r"  +", line)


def shown(*values):
    """Return numbers as tables show them."""
    return [f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.4g}" for value in values]


def test_a_neuron_is_named_with_its_run_and_its_numbers(database):
    card = describe_neuron(database, "tiny-bert", 1, 5)
    run_id = only(database, "select run_id from runs")
    assert (
        card.splitlines()[0]
        == f"neuron 5 of encoder layer 1, tiny-bert main, run {run_id} (corpus spans, activation, max)"
    )
    (row,) = database.sql("from neurons where layer = 1 and neuron = 5").arrow().to_pylist()
    header, numbers = map(cells, section(card, "activation, and norms of its weights"))
    assert header == ["fires_on", "mean", "std", "largest", "input_norm", "output_norm"]
    assert numbers == shown(*(row[name] for name in ("firing_rate", "mean", "std", "max", *header[4:])))


def test_a_neuron_of_a_native_expert_says_so(measured):
    card = describe_neuron(Database(measured("olmoe")), "tiny-olmoe", 0, 70)  # its only stack is the decoder
    header, numbers = map(cells, section(card, "activation, and norms of its weights"))
    assert (header[0], numbers[0]) == ("native_expert", "1")


def test_a_neurons_functions_are_those_of_sql_the_best_first(measured):
    database = Database(measured("bert"))
    query = "from neuron_scores where layer = 0 and neuron = 9 order by ranking desc"
    expected = []
    for row in database.sql(query).arrow().to_pylist():
        scores = shown(*(row[name] for name in ("ap", "prevalence", "lift")))
        expected.append([f"{row['family']}/{row['function']}", *scores, row["direction"], *shown(row["p_value"])])
    assert len(expected) == 3
    assert rows(describe_neuron(database, "tiny-bert", 0, 9), "functions that it detects best") == expected


@pytest.mark.parametrize(("negatives", "unlabelled"), [("rest", "not of"), ("explicit", "not labelled for")])
def test_a_neurons_texts_are_told_apart_by_what_they_are_for_its_best_function(
    tiny_model, tmp_path, negatives, unlabelled
):
    labels = {"task/animal": True}, {"task/animal": False}, {}
    words = [("cat", "dog", "bird", "fish"), ("king", "queen", "song", "stone"), ("tree", "bank", "city", "house")]
    instances = [Instance(f"old {word}", label) for label, some in zip(labels, words, strict=True) for word in some]
    build_corpus(Source(iter(instances), "a test", None, "test: literals", negatives), "few", store=tmp_path)
    ingest_model(str(tiny_model("bert")), corpus="few", store=tmp_path, settings=Settings(n_top=11))
    card = describe_neuron(Database(tmp_path), "tiny-bert", 0, 3)
    found = {
        of: {text.split()[1] for _, text in rows(card, title)}
        for of in ("of", "not of", "not labelled for")
        if (title := f"texts that activate it most, {of} task/animal") in card
    }
    expected = {"of": set(words[0]), "not of": set(words[1])}
    expected[unlabelled] = expected.get(unlabelled, set()) | set(words[2])
    assert all(some <= expected[of] and len(some) > 2 for of, some in found.items())
    assert found.keys() == expected.keys()


def test_spans_stand_in_brackets_and_long_texts_are_cut_around_them(database, monkeypatch):
    monkeypatch.setattr(cards, "_N_TEXTS", 50)
    card = describe_neuron(database, "tiny-bert", 0, 3)
    texts = {text for of in ("of", "not of") for _, text in rows(card, f"texts that activate it most, {of}")}
    assert texts & {f"a [{word}] sat on the mat" for word in ("cat", "dog", "king", "stone")}
    assert texts & {f"the {word} ran" for word in ("cat", "dog", "king", "stone")}
    long = [text for text in texts if "house [" in text]
    assert long
    for text in long:
        before, after = re.fullmatch(r"…(.*)\[\w+\](.*)", text).groups()
        assert BEFORE.endswith(before)
        assert (len(before) > 40, after) == (True, "")
    cut = [text for text in texts if "[" not in text and text.endswith("…")]
    assert cut
    assert {len(text) for text in texts if text in cut} <= {WIDTH - 1, WIDTH}
    assert max(map(len, texts)) <= WIDTH + 4


def test_a_long_span_is_cut_itself(tiny_model, tmp_path):
    text = "a cat sat " + "on the mat near the tree " * 8 + "at light"
    instances = [Instance(text, {"task/long": True}, 2, len(text) - 3), Instance("old stone", {"task/long": False})]
    build_corpus(Source(instances, "a test", None, "test: literals", "rest"), "long", store=tmp_path)
    ingest_model(str(tiny_model("bert")), corpus="long", store=tmp_path)
    cards = [describe_neuron(Database(tmp_path), "tiny-bert", 0, neuron) for neuron in range(4)]
    (line,) = {cells(line.strip())[-1] for card in cards for line in card.splitlines() if "[" in line}
    assert re.fullmatch(r"…\[cat sat on the mat .*…\]…", line)
    assert len(line) <= WIDTH + 4


def test_a_neurons_experts_are_those_of_all_partitions_of_its_revision(database):
    found = rows(describe_neuron(database, "tiny-bert", 1, 5), "experts it is in")
    ((partition_id, expert),) = database.sql(
        "select partition_id, expert from experts where layer = 1 and neuron = 5"
    ).rows()
    assert found == [[partition_id, "function", "4", str(expert)]]


def test_a_neuron_in_no_expert_has_no_list_of_them(measured):
    assert "experts" not in describe_neuron(Database(measured("bert")), "tiny-bert", 0, 3)


def test_an_expert_is_named_with_its_method_size_and_run(database):
    partition_id = only(database, "select partition_id from partitions")
    said = " ".join(describe_expert(database, partition_id[:5], 1, 2).partition("\n\n")[0].splitlines())
    run_id = only(database, "select run_id from runs")
    assert said == (
        f"expert 2 of encoder layer 1, partition {partition_id}: function, 4 experts a layer, 16 neurons; "
        f"tiny-bert main, run {run_id} (corpus spans, activation, max)"
    )


def test_an_expert_functional_for_nothing_says_how_near_it_comes(database):
    partition_id = only(database, "select partition_id from partitions")
    query = "select p_value from expert_function_alignment where layer = 1 and expert = 2"
    p_value = only(database, query)
    card = describe_expert(database, partition_id, 1, 2)
    assert f"functional for nothing: its smallest p is {p_value:.2g}, for task/animal" in card


def test_an_experts_neurons_are_its_most_specialised(database):
    partition_id = only(database, "select partition_id from partitions")
    found = rows(describe_expert(database, partition_id, 1, 2), "its most specialised neurons")
    query = (
        "select neuron, predictivity, lift from specialization join experts using (stack, layer, neuron) "
        "where layer = 1 and expert = 2 order by lift desc, neuron limit 8"
    )
    expected = [[str(neuron), "task/animal", *shown(*scores)] for neuron, *scores in database.sql(query).rows()]
    assert [row[:4] for row in found] == expected
    assert len(expected) == 8


def test_an_experts_texts_are_those_most_of_its_neurons_share(database):
    partition_id = only(database, "select partition_id from partitions")
    found = rows(describe_expert(database, partition_id, 0, 1), "texts that most of its neurons")
    query = (
        "select count(*) from top_instances join experts using (stack, layer, neuron) "
        "where layer = 0 and expert = 1 group by instance_id order by 1 desc limit 5"
    )
    expected = [str(n) for (n,) in database.sql(query).rows()]
    assert [n_neurons for n_neurons, _ in found] == expected
    assert len(expected) == 5


def test_a_functional_expert_lists_functions_with_their_tests_families_behind(imported):
    partition_id = only(imported, "select partition_id from partitions")
    header, *found = map(cells, section(describe_expert(imported, partition_id, 0, 7), "functional for (p <= .001"))
    assert header == ["name", "n_top", "n_expected", "enrichment", "p_value", "q_value"]
    query = "from functional_experts where expert = 7 order by level desc"
    tests = imported.sql(query).arrow().to_pylist()
    expected = [[str(row["n_top"]), *shown(*(row[name] for name in header[2:]))] for row in tests]
    assert [row[1:] for row in found] == expected
    assert [row[0] for row in found] == ["task/high", "task (all functions)"]
    assert expected[0][:3] == ["4", "0.5000", "8.0000"]


def test_what_an_imported_run_does_not_know_is_not_shown(imported):
    partition_id = only(imported, "select partition_id from partitions")
    neuron = describe_neuron(imported, "theirs", 0, 399)
    expert = describe_expert(imported, partition_id, 0, 3)
    assert neuron.splitlines()[0].endswith("(imported from scores.parquet)")
    header, *scores = map(cells, section(neuron, "functions that it detects best"))
    assert header[:2] == ["name", "ap"]
    assert scores == [["task/high", "0.3990"], ["other/low", "-0.3990"]]
    for card in (neuron, expert):
        for unknown in ("fires_on", "texts", "None", "nan", "prevalence", "p_value"):
            assert unknown not in card
    assert rows(neuron, "experts it is in") == [[partition_id, "imported", "8", "7"]]
    assert "functional for nothing: its smallest p is 1, for other/low" in expert


def test_a_neuron_that_is_not_there_is_refused_with_the_layers_there_are(database):
    known = r"it has encoder 0 \(64 neurons\), encoder 1 \(64 neurons\)"
    for layer, neuron, stack in ((0, 64, "encoder"), (2, 0, "encoder"), (0, 0, "decoder")):
        message = rf"run [0-9a-f]{{16}} has no neuron {neuron} in {stack} layer {layer}; {known}"
        with pytest.raises(AnalysisError, match=message):
            describe_neuron(database, "tiny-bert", layer, neuron, stack=stack)


def test_an_expert_that_is_not_there_is_refused_with_the_layers_there_are(database):
    partition_id = only(database, "select partition_id from partitions")
    message = (
        rf"partition {partition_id} has no expert 4 in encoder layer 1 .*it has encoder 0 \(4 experts\), encoder 1"
    )
    with pytest.raises(AnalysisError, match=message):
        describe_expert(database, partition_id, 1, 4)


def test_a_model_revision_or_partition_that_is_not_there_is_refused(database):
    with pytest.raises(UnknownNameError, match=r"no model 'bert'.*'tiny-bert'"):
        describe_neuron(database, "bert", 0, 0)
    with pytest.raises(UnknownNameError, match=r"no revision 'step1' in tiny-bert in .*main"):
        describe_neuron(database, "tiny-bert", 0, 0, revision="step1")
    with pytest.raises(UnknownNameError, match=r"no partition 'x'.*tiny-bert, main, function, 4"):
        describe_expert(database, "x", 0, 0)


@pytest.fixture(scope="module")
def several(measured, tiny_model, tmp_path_factory):
    """Return a database with a second run of the model, one of a second revision, and one of a second model."""
    folder = shutil.copytree(measured("bert"), tmp_path_factory.mktemp("several") / "store")
    ingest_model(str(tiny_model("bert")), corpus="test", store=folder, settings=Settings(pooling="mean"))
    ingest_model(str(tiny_model("bert")), corpus="test", store=folder, random_init=3)
    ingest_model(str(tiny_model("gpt2")), corpus="test", store=folder)
    run = only(Database(folder), "select run_id from runs where model = 'tiny-bert' and pooling = 'mean'")
    partition_model("tiny-bert", store=folder, settings=PartitionSettings("random", n_experts=4, run=run))
    return Database(folder)


def run_of(database, condition):
    return only(database, f"select run_id from runs where {condition}")


def test_of_several_runs_one_is_to_be_named(several):
    partition_id = only(several, "select partition_id from partitions")
    message = "no single run 'tiny-bert main'"
    with pytest.raises(UnknownNameError, match=message):
        describe_neuron(several, "tiny-bert", 0, 0)
    with pytest.raises(UnknownNameError, match=message):
        describe_expert(several, partition_id, 0, 0)


def test_the_run_named_is_the_one_described(several):
    partition_id = only(several, "select partition_id from partitions")
    run = run_of(several, "pooling = 'mean'")
    for card in (
        describe_neuron(several, "tiny-bert", 0, 0, run=run[:8]),
        describe_expert(several, partition_id, 0, 0, run=run[:8]),
    ):
        assert f"tiny-bert main, run {run} (corpus test, activation, mean)" in card


def test_a_named_run_may_be_of_any_revision_unless_that_is_named_too(several):
    partition_id = only(several, "select partition_id from partitions")
    run = run_of(several, "revision = 'random-3'")
    assert f"tiny-bert random-3, run {run}" in describe_neuron(several, "tiny-bert", 0, 0, run=run)
    assert f"tiny-bert random-3, run {run}" in describe_expert(several, partition_id, 0, 0, run=run)
    with pytest.raises(AnalysisError, match=f"run {run} is of tiny-bert random-3, not of tiny-bert main"):
        describe_neuron(several, "tiny-bert", 0, 0, run=run, revision="main")


def test_a_run_of_another_model_is_refused(several):
    partition_id = only(several, "select partition_id from partitions")
    run = run_of(several, "model = 'tiny-gpt2'")
    message = f"run {run} is of tiny-gpt2 main, not of tiny-bert"
    with pytest.raises(AnalysisError, match=message):
        describe_neuron(several, "tiny-bert", 0, 0, run=run)
    with pytest.raises(AnalysisError, match=message):
        describe_expert(several, partition_id, 0, 0, run=run)
