"""Functions with few instances of a class in a half: told, and left out where a least number is asked for."""

import numpy as np
import pytest

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.stored import StoredCorpus
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Settings
from neuronlake.progress import SilentProgress


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def ingest(store, make_corpus, tiny_model):
    """Return a function that measures 34 texts, every other an animal's: the report, and what is noted."""
    labels = [
        {"task/animal": place % 2 == 0, "task/last": place == 33, "task/often": place >= 3} for place in range(34)
    ]
    texts = [f"the {('cat', 'house')[place % 2]} on {place}{' and a dog' * (place == 33)}" for place in range(34)]
    make_corpus(store, list(map(Instance, texts, labels)))

    def run(**settings):
        progress = Notes()
        report = ingest_model(
            str(tiny_model("bert")), corpus="test", store=store.path, settings=Settings(**settings), progress=progress
        )
        return report, progress.notes

    return run


def test_functions_with_few_instances_are_measured_and_told_by_default(ingest, read_rows, store):
    report, notes = ingest()
    assert report.n_functions == 3
    columns = [f"n_{sign}_half_{half}" for half in "ab" for sign in ("positive", "negative")]
    counts = {row["function"]: [row[column] for column in columns] for row in read_rows(store, "run_functions")}
    assert {name for name, of in counts.items() if min(of) < 5} == {"last", "often"}
    listed = [f"task/{name} ({a}, {b}; {c}, {d})" for name, (a, b, c, d) in counts.items() if name != "animal"]
    assert notes == [
        "2 of 3 functions have fewer than 5 positives or negatives in a half (positives, negatives of half a; of half "
        f"b): {', '.join(listed)}; --min-instances 5 leaves them out"
    ]


def test_functions_below_the_minimum_are_left_out_of_a_run_of_its_own(ingest, read_rows, store):
    whole, (told,) = ingest()
    report, (note,) = ingest(min_instances=5)
    assert (report.n_functions, report.run_id != whole.run_id) == (1, True)
    assert note == told.replace("have", "are left out, for they have").partition("; --min")[0]
    columns = ("stack", "layer", "neuron", "function", "ap", "auroc", "p_value", "ap_half_a")
    scores = {report.run_id: [], whole.run_id: []}
    for row in read_rows(store, "neuron_functions"):
        scores[row["run_id"]].append([row[name] for name in columns])
    assert scores[report.run_id] == [row for row in scores[whole.run_id] if row[3] == "animal"]
    stored = {row["run_id"]: row["min_instances"] for row in read_rows(store, "runs")}
    assert stored == {whole.run_id: 0, report.run_id: 5}


def test_a_minimum_that_no_function_has_is_refused_with_the_most_there_is(ingest):
    most = r"the most that one has is [3-8] \(task/animal\)"
    with pytest.raises(IngestError, match=f"no function has 40 .* in each half, as min_instances asks; {most}"):
        ingest(min_instances=40)


@pytest.mark.parametrize("least", [0, 1])
def test_a_function_without_a_class_among_what_is_measured_is_an_error_unless_a_minimum_leaves_it_out(
    store, make_corpus, tiny_model, least
):
    texts = ["the cat sat on the house", "the dog ran", "a cat", "a dog"] * 6
    spans = [Instance(f"{text} {place}", {"f/early": place % 2 == 0}, 0, 3) for place, text in enumerate(texts)]
    beyond = [Instance(f"the dog ran on a house {place}", {"f/late": True}, 15, 18) for place in range(6)]
    make_corpus(store, spans + beyond)
    settings = Settings(max_tokens=5, min_instances=least)
    arguments = {"corpus": "test", "store": store.path, "settings": settings}
    if least:
        assert ingest_model(str(tiny_model("bert")), **arguments).n_functions == 1
    else:
        with pytest.raises(IngestError, match="0 are positive and 24 negative for f/late; both are needed"):
            ingest_model(str(tiny_model("bert")), **arguments)


def test_labels_of_some_functions_are_those_of_all_without_the_others(store, make_corpus):
    labels = [{"f/a": True, "f/b": False}, {"f/c": True}, {"f/a": False, "f/c": False}, {"f/b": True}]
    make_corpus(store, [Instance(f"text {place}", of) for place, of in enumerate(labels)], negatives="explicit")
    place, kept = np.arange(4), np.array([True, False, True])
    index = StoredCorpus(store, "test").label_index(place)
    some = index.only(kept)
    assert some.functions == (("f", "a"), ("f", "c"))
    assert some.dense(place).tolist() == index.dense(place)[kept].tolist()
    assert some.counts().tolist() == index.counts()[kept].tolist()
