"""Control functions beside a run: what a corpus with its labels permuted gives, in the same pass or later."""

import copy
import random
import shutil

import pytest

from neuronlake.errors import IngestError, UnknownNameError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.control_tasks import read_shuffled
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.jobs import sinks
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Controls
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

KEYS = {"run_id", "model", "revision", "step", "control", "draw"}
TABLES = {"control_best": "neuron_best", "control_top_neurons": "function_top_neurons"}


@pytest.fixture
def words(store, make_corpus):
    """Make a corpus of the words of 60 texts, each word with a part of speech; return the store."""
    draw = random.Random(5)
    names = [f"word{number}" for number in range(40)]
    instances = []
    for _ in range(60):
        start, text = 0, " ".join(draw.sample(names, 4))
        for word in text.split():
            number = int(word.removeprefix("word"))
            labels = {"f/low": number < 15, "f/even": number % 2 == 0, "g/any": draw.random() < 0.3}
            stratum = "noun" if number % 3 else "verb"
            instances.append(Instance(text, labels, start, start + len(word), stratum=stratum))
            start += len(word) + 1
    make_corpus(store, instances)
    return store


def rows(store, read_rows, table, job=None):
    return [
        {name: value for name, value in row.items() if name not in KEYS} for row in read_rows(store, table, job=job)
    ]


def test_controls_are_what_a_shuffled_corpus_gives(words, read_rows, tiny_model):
    model = str(tiny_model("bert"))
    report = ingest_model(
        model, corpus="test", store=words.path, controls=Controls(("text", "word", "word-in-stratum"), 2)
    )
    assert report.n_controls == 6
    for control, by, within in (("text", "text", None), ("word", "word", None), ("word-in-stratum", "word", "stratum")):
        for draw in (0, 1):
            shuffled = read_shuffled("test", store=words.path, by=by, within=within, seed=draw)
            build_corpus(shuffled, f"{control}-{draw}", store=words.path)
            of_shuffled = ingest_model(model, corpus=f"{control}-{draw}", store=words.path).run_id
            job = Controls.job_name(report.run_id, control, draw)
            for table, of_run in TABLES.items():
                found = rows(words, read_rows, table, job)
                assert found == rows(words, read_rows, of_run, of_shuffled)
                assert len(found) == len(rows(words, read_rows, of_run, report.run_id))
    functions = read_rows(words, "control_functions")
    assert {(row["control"], row["draw"]) for row in functions} == {
        (control, draw) for control in ("text", "word", "word-in-stratum") for draw in (0, 1)
    }
    counts = {(row["family"], row["function"]): (row["n_positive"], row["n_negative"]) for row in functions}
    measured = read_rows(words, "run_functions", job=report.run_id)
    assert counts == {(row["family"], row["function"]): (row["n_positive"], row["n_negative"]) for row in measured}
    with Database(words) as database:
        assert database.sql("select count(distinct function) from neuron_functions").rows() == [(3,)]
    assert not words.check()


def test_controls_added_later_are_the_same_and_the_run_stays(words, read_rows, tiny_model, tmp_path, tree):
    model = str(tiny_model("bert"))
    first = ingest_model(model, corpus="test", store=words.path)
    files = tree(words)
    plan = ingest_model(model, corpus="test", store=words.path, controls=Controls(("word",)), dry_run=True)
    assert (plan.is_new, plan.n_controls, plan.n_rows["control_best"]) == (False, 1, first.n_neurons * 2)
    assert plan.scoring_s == plan.controls_s > 0
    added = ingest_model(model, corpus="test", store=words.path, controls=Controls(("word",)))
    assert (added.run_id, added.is_new, added.n_controls) == (first.run_id, False, 1)
    assert "already in the store, 1 set of control functions added" in added.describe()
    assert "word" in {row["control"] for row in read_rows(words, "control_best")}
    assert len(read_rows(words, "control_best")) == plan.n_rows["control_best"]
    assert len(read_rows(words, "control_top_neurons")) == plan.n_rows["control_top_neurons"]
    assert {name: files[name] for name in files if name != "README.md"}.items() <= tree(words).items()
    again = ingest_model(model, corpus="test", store=words.path, controls=Controls(("word",), n_draws=2))
    assert again.n_controls == 1  # the second draw alone
    assert ingest_model(model, corpus="test", store=words.path, controls=Controls(("word",), 2)).n_controls == 0


def test_what_a_corpus_cannot_give_is_refused(store, make_corpus, whole_texts, tiny_model):
    make_corpus(store, whole_texts, negatives="explicit")
    ask = {"model": str(tiny_model("bert")), "corpus": "test", "store": store.path}
    with pytest.raises(IngestError, match=r"corpus test: .* are no words but whole texts"):
        ingest_model(**ask, controls=Controls(("word",)))
    with pytest.raises(UnknownNameError, match="no control task 'sentence'"):
        Controls(("sentence",))
    with pytest.raises(IngestError, match="n_draws is 0"):
        Controls(n_draws=0)
    assert ingest_model(**ask, controls=Controls()).n_controls == 1
    with Database(store) as database:
        assert database.sql("select distinct control from control_best").rows() == [("instance",)]


@pytest.mark.parametrize("what", ["word", "place"])
def test_neurons_are_selective_for_places_and_not_for_random_sets_of_words(what, store, make_corpus, tiny_model):
    draw = random.Random(7)
    names = sorted({"".join(draw.choices("bdfgklmnprstvz", k=4)) for _ in range(50)})
    sets = [{name for name in names if draw.random() < 0.5} for _ in range(8)]
    instances = []
    for _ in range(150):
        start, text = 0, " ".join(draw.sample(names, 6))
        for place, word in enumerate(text.split()):
            labels = {f"word/{number}": word in of for number, of in enumerate(sets)}
            labels = labels if what == "word" else {"place/first": place == 0, "place/last": place == 5}
            instances.append(Instance(text, labels, start, start + len(word)))
            start += len(word) + 1
    make_corpus(store, instances)
    ingest_model(str(tiny_model("bert")), corpus="test", store=store.path, controls=Controls(("word",), n_draws=3))
    query = "select avg(is_selective::int), avg(lift), avg(control_lift) from specialization"
    with Database(store) as database:
        selective, lift, control_lift = database.sql(query).rows()[0]
        best = database.sql("select avg(best_lift), avg(control_lift) from best_predictivity").rows()[0]
    if what == "word":
        assert lift > 0.1
        assert selective < 0.05
        assert lift < 1.4 * control_lift
        assert best[0] < 1.4 * best[1]
    else:
        assert selective > 0.5
        assert lift > 2 * control_lift
        assert best[0] > 2 * best[1]


def test_functions_of_few_instances_take_nothing_from_others_and_nonsense_is_not_selective(
    store, make_corpus, tiny_model
):
    draw = random.Random(7)
    names = sorted({"".join(draw.choices("bdfgklmnprstvz", k=4)) for _ in range(50)})
    instances = []
    for _ in range(150):
        start, text = 0, " ".join(draw.sample(names, 6))
        for place, word in enumerate(text.split()):
            labels = {"place/first": place == 0, "place/last": place == 5}
            instances.append(Instance(text, labels, start, start + len(word)))
            start += len(word) + 1
    plain = copy.deepcopy(instances)
    for number in range(10):  # chance alone takes functions of so few further than the places of words are detected
        for place, instance in enumerate(draw.sample(instances, 24)):
            instance.labels[f"noise/{number}"] = place % 2 == 0
    found = {}
    for name, of in (("plain", plain), ("mixed", instances)):
        make_corpus(store, of, name=name, negatives="explicit")
        ingest_model(str(tiny_model("bert")), corpus=name, store=store.path, controls=Controls(("word",), n_draws=3))
        with Database(store) as database:
            query = "select family, avg(is_selective::int), avg(selectivity) from specialization where corpus = ?"
            rows = database.sql(f"{query} group by all", [name]).rows()
        found[name] = {family: (selective, selectivity) for family, selective, selectivity in rows}
    assert found["plain"]["place"][0] > 0.5
    selective, selectivity = found["mixed"]["place"]
    assert selective > 0.5
    assert selectivity > 0
    assert found["mixed"]["noise"][0] == 0


def test_the_default_is_the_strictest_control_and_leaves_out_what_strata_fix(words, store, make_corpus, tiny_model):
    instances = [
        Instance(f"{word} here", {"f/noun": kind == "noun", "f/half": number % 2 == 0}, 0, len(word), stratum=kind)
        for number, (word, kind) in enumerate((f"word{n}", "noun" if n % 3 else "verb") for n in range(60))
    ]
    make_corpus(store, instances, name="fixed")
    ingest_model(str(tiny_model("bert")), corpus="fixed", store=store.path, controls=Controls())
    with Database(store) as database:
        assert database.sql("select control, function from control_functions").rows() == [("word-in-stratum", "half")]
    ask = {"model": str(tiny_model("bert")), "corpus": "noun", "store": store.path}
    for instance in instances:
        del instance.labels["f/half"]
    make_corpus(store, instances, name="noun")
    with pytest.raises(IngestError, match="corpus noun: no label can move by word-in-stratum"):
        ingest_model(**ask, controls=Controls())


def test_parts_of_controls_are_cut_by_the_rows_of_all_families(words, tiny_model, monkeypatch):
    report = ingest_model(str(tiny_model("bert")), corpus="test", store=words.path)
    n_rows = 2 * report.n_neurons // report.n_layers  # of a layer: functions are of two families
    monkeypatch.setattr("neuronlake.ingest.jobs.sinks.PART_ROWS", n_rows)
    ingest_model(str(tiny_model("bert")), corpus="test", store=words.path, controls=Controls())
    files = [file for commit in words.commits() for file in commit.files if file.table == "control_best"]
    assert [file.n_rows for file in files] == [n_rows] * report.n_layers


def test_a_pass_that_was_stopped_among_controls_goes_on_and_gives_the_same(
    words, read_rows, tiny_model, tmp_path, monkeypatch
):
    ask = {"model": str(tiny_model("bert")), "corpus": "test", "controls": Controls(("text", "word"), 2)}
    whole = shutil.copytree(words.path, tmp_path / "whole")
    ingest_model(**ask, store=whole)
    monkeypatch.setattr(sinks, "PART_ROWS", 1)
    finish, n_finished = sinks.ControlTables.finish, 0

    def stop_at_the_sixth(*arguments):
        nonlocal n_finished
        n_finished += 1
        if n_finished == 6:
            raise KeyboardInterrupt
        finish(*arguments)

    monkeypatch.setattr(sinks.ControlTables, "finish", stop_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        ingest_model(**ask, store=words.path)
    assert [commit.kind for commit in words.commits()] == ["corpus"]
    monkeypatch.setattr(sinks.ControlTables, "finish", finish)
    report = ingest_model(**ask, store=words.path)
    assert (report.is_new, report.n_controls) == (True, 4)
    for table in ("neuron_functions", "neuron_best", *TABLES, "control_functions"):
        keys = sorted(map(str, read_rows(words, table)))
        assert keys == sorted(map(str, read_rows(Store(whole), table)))
    assert not words.check()


def test_controls_that_lack_all_that_goes_by_a_clustering_are_the_same_with_the_run_and_later(
    store, make_corpus, read_rows, tiny_model, tmp_path
):
    draw, instances = random.Random(3), []
    for number in range(60):  # two words of a text carry a/fixed, whose label is the stratum; a third carries b/free
        words = [f"word{draw.randrange(40)}" for _ in range(3)]
        start, text = 0, " ".join([*words, str(number)])
        for place, word in enumerate(words):
            labels = {"b/free": draw.random() < 0.5} if place == 2 else {"a/fixed": place == 0}
            instances.append(Instance(text, labels, start, start + len(word), stratum="xyz"[place]))
            start += len(word) + 1
    ask = {"model": str(tiny_model("bert")), "corpus": "test"}
    later = Store(tmp_path / "later")
    for each in (store, later):
        make_corpus(each, instances, negatives="explicit")
    ingest_model(**ask, store=later.path)
    for each in (store, later):
        assert ingest_model(**ask, store=each.path, controls=Controls()).n_controls == 1
    assert rows(store, read_rows, "control_best") == rows(later, read_rows, "control_best") != []
