"""What a dry run predicts exactly or nearly: rows and bytes, of one run and of a series."""

import random
from collections import Counter

import pytest
from conftest import WORDS

from neuronlake import Instance
from neuronlake.ingest.jobs.job import ingest_model, ingest_series
from neuronlake.ingest.jobs.settings import Coactivation, Controls
from neuronlake.schema.store import Store


@pytest.fixture
def labelled(store, make_corpus):
    """Return a store with a corpus of whole texts, large enough that files are more than their footers."""
    draw = random.Random(4)
    texts = [f"{number} {' '.join(draw.choices(WORDS, k=6))}" for number in range(300)]
    make_corpus(store, [Instance(text, {f"has/{word}": word in text for word in WORDS[2:10]}) for text in texts])
    return store


def written(store):
    """Return the rows and bytes of all jobs that measured."""
    commits = [commit for commit in Store(store.path).commits() if commit.kind in ("run", "controls", "coactivation")]
    files = [file for commit in commits for file in commit.files]
    return sum(file.n_rows for file in files), sum(file.size_bytes for file in files)


@pytest.mark.parametrize("kind", ["bert", "t5", "olmoe"])
def test_rows_and_bytes_are_within_two_percent(labelled, tiny_model, kind):
    arguments = {"corpus": "test", "store": labelled.path, "controls": Controls(("text",))}
    plan = ingest_model(str(tiny_model(kind)), **arguments, dry_run=True)
    ingest_model(str(tiny_model(kind)), **arguments)
    n_rows, n_bytes = written(labelled)
    assert sum(plan.n_rows.values()) == pytest.approx(n_rows, rel=0.02)
    assert plan.parquet_bytes == pytest.approx(n_bytes, rel=0.02)
    assert plan.cpu_s > 0
    assert plan.memory_bytes > 50e6


def test_a_series_is_the_sum_of_its_checkpoints(labelled, series):
    arguments = {"corpus": "test", "store": labelled.path, "revisions": "step*"}
    plans = ingest_series(str(series), **arguments, dry_run=True)
    ingest_series(str(series), **arguments)
    n_rows, n_bytes = written(labelled)
    assert sum(sum(plan.n_rows.values()) for plan in plans.plans) == pytest.approx(n_rows, rel=0.02)
    assert sum(plan.parquet_bytes for plan in plans.plans) == pytest.approx(n_bytes, rel=0.02)
    assert plans.describe().startswith(f"in all up to {sum(sum(plan.n_rows.values()) for plan in plans.plans):,} rows")
    assert plans.describe().endswith("; 0 of 3 revisions failed")


def test_what_is_there_already_takes_no_bytes_and_what_is_added_its_own(labelled, tiny_model):
    arguments = {"corpus": "test", "store": labelled.path}
    ingest_model(str(tiny_model("bert")), **arguments)
    before = written(labelled)[1]
    assert ingest_model(str(tiny_model("bert")), **arguments, dry_run=True).parquet_bytes == 0
    plan = ingest_model(str(tiny_model("bert")), **arguments, coactivation=Coactivation(), dry_run=True)
    ingest_model(str(tiny_model("bert")), **arguments, coactivation=Coactivation())
    assert plan.parquet_bytes == pytest.approx(written(labelled)[1] - before, rel=0.5)  # of a few kB


def test_additions_are_predicted_with_the_run_and_alone(labelled, tiny_model):
    arguments = {"corpus": "test", "store": labelled.path}
    bare = ingest_model(str(tiny_model("bert")), **arguments, dry_run=True)
    asked = {**arguments, "additions": ("highlights", "vocabulary")}
    plan = ingest_model(str(tiny_model("bert")), **asked, dry_run=True)
    ingest_model(str(tiny_model("bert")), **arguments)
    alone = ingest_model(str(tiny_model("bert")), **asked, dry_run=True)
    ingest_model(str(tiny_model("bert")), **asked)
    rows = Counter()
    for commit in Store(labelled.path).commits():
        for file in commit.files:
            rows[file.table] += file.n_rows
    for each in (plan, alone):
        assert set(each.additions_s) == {"highlights", "vocabulary"}
        assert each.n_rows["top_tokens"] >= rows["top_tokens"] > 0
        assert each.n_rows["neuron_vocabulary"] >= rows["neuron_vocabulary"] > 0
    assert set(alone.n_rows) == {"top_tokens", "neuron_vocabulary"}
    assert (alone.forward_s, alone.activation_bytes) == (0, 0)
    assert plan.parquet_bytes - bare.parquet_bytes == pytest.approx(alone.parquet_bytes, rel=0.1)
