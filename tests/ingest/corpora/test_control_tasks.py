"""What each shuffle shows of labels that mean nothing but go by text or word, and of labels that mean something."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.control_tasks import read_shuffled
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.stored import StoredCorpus
from neuronlake.ingest.scores.best import SCORE_NAMES
from neuronlake.ingest.scores.scoring import score

N_NEURONS = 120


@pytest.fixture
def measure(source, store):
    """Return a function that scores neurons on some instances with their labels shuffled, or with `real` ones."""

    def scores(instances, activations, kind, **how):
        if kind == "real":
            build_corpus(source(instances), "real", store=store.path)
        else:
            build_corpus(read_shuffled("real", store=store.path, seed=1, **how), kind, store=store.path)
        corpus = StoredCorpus(store, kind)
        read = corpus.instances()
        labels = corpus.label_index(read.instance_id)
        return labels, score(np.ascontiguousarray(activations[:, read.instance_id], np.float32), labels, n_top=0)

    return scores


def best_lift(labels, scores):
    """Return the mean over functions of the lift of their best neuron."""
    positive, evaluated = labels.counts()[:, 0].T
    prevalence = positive / evaluated
    ap, complement = (scores.scores[:, :, SCORE_NAMES.index(name)] for name in ("ap", "ap_complement"))
    lift = np.maximum(ap - prevalence, complement - (1 - prevalence)) / np.maximum(prevalence, 1 - prevalence)
    return lift.max(0).mean()


@pytest.mark.long
def test_labels_of_texts_find_neurons_by_chance_which_only_a_shuffle_by_text_shows(measure):
    draw = np.random.default_rng(0)
    n_texts, n_spans, n_functions = 300, 10, 24
    text = np.repeat(np.arange(n_texts), n_spans)
    labels = draw.random((n_functions, n_texts)) < np.geomspace(0.02, 0.5, n_functions)[:, None]
    instances = [
        Instance(
            f"{place:03} abcdefghij", {f"t/{index}": True for index in np.flatnonzero(labels[:, place])}, span, span + 4
        )
        for place in range(n_texts)
        for span in range(n_spans)
    ]
    of_text, own = draw.normal(size=(N_NEURONS, n_texts))[:, text], draw.normal(size=(N_NEURONS, len(text)))
    activations = np.sqrt(0.2) * of_text + np.sqrt(0.8) * own

    found, lifts = {}, {}
    for kind, how in (("real", {}), ("instance", {}), ("text", {"by": "text"})):
        index, scores = measure(instances, activations, kind, **how)
        q = false_discovery_control(scores.p_value.ravel()).reshape(scores.p_value.shape)  # instances as independent
        found[kind], lifts[kind] = (q <= 0.05).any(1).mean(), best_lift(index, scores)
    assert found["real"] > 0.5
    assert found["instance"] < 0.03
    assert found["text"] > 0.5
    assert lifts["text"] == pytest.approx(lifts["real"], rel=0.15)
    assert lifts["instance"] < 0.7 * lifts["real"]


@pytest.mark.long
@pytest.mark.parametrize("is_real", [True, False])
def test_what_neurons_know_of_classes_beyond_words_is_what_the_control_task_lacks(measure, is_real):
    draw = np.random.default_rng(1)
    n_words, n_classes = 500, 8
    frequency = 1 / (np.arange(n_words) + 5)
    word = np.concatenate([np.arange(n_words), draw.choice(n_words, 3500, p=frequency / frequency.sum())])
    of_word = draw.integers(n_classes, size=n_words)  # the first four classes are of nouns, the others of verbs
    instances = [
        Instance(
            f"{code:03} {place}", {f"c/{of_word[code]}": True}, 0, 3, stratum="noun" if of_word[code] < 4 else "verb"
        )
        for place, code in enumerate(word)
    ]
    activations = draw.normal(size=(N_NEURONS, n_words))[:, word] + draw.normal(size=(N_NEURONS, len(word)))
    if is_real:
        activations += 1.5 * draw.normal(size=(N_NEURONS, n_classes))[:, of_word[word]]
    else:  # the part of speech alone
        activations += 1.5 * draw.normal(size=(N_NEURONS, 2))[:, (of_word[word] < 4).astype(int)]
    kinds = {"real": {}, "instance": {}, "word": {"by": "word", "within": "stratum"}}
    lifts = {kind: best_lift(*measure(instances, activations, kind, **how)) for kind, how in kinds.items()}
    assert lifts["instance"] < 0.5 * lifts["word"]
    if is_real:
        assert lifts["real"] > 2 * lifts["word"]
    else:
        assert lifts["real"] == pytest.approx(lifts["word"], rel=0.2)
