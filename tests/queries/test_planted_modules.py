"""Ten planted modules of rare functions, each sharing neurons with the next: all are functional, each in its expert."""

import numpy as np
import pytest
from queries.small_partitions import add_partition
from queries.small_runs import add_run

from neuronlake.analysis.alignment.job import align_partition
from neuronlake.ingest.scores.scoring import SCORE_NAMES, score
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

from ..labels import label_index

pytestmark = pytest.mark.long

RUN, PARTITION = "a" * 16, "b" * 16
N_FUNCTIONS, N_NEURONS, N_INSTANCES, N_POSITIVE = 10, 2000, 2000, 40
FUNCTIONS = tuple(("planted", str(function)) for function in range(N_FUNCTIONS))
OWN, SHARED, SIZE = 12, 8, 50
"""Neurons of an expert that serve its function alone, and that serve the next function too; neurons of an expert."""
PLANTED = {(function, str(function)) for function in range(N_FUNCTIONS)}
"""The expert that holds each function's module."""


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Return a database over the scores of 2,000 neurons in 40 experts, of which ten hold a module, and their tests.

    A positive raises a module's neurons by one standard deviation of what they do otherwise.
    """
    draw = np.random.default_rng(4)
    labels = np.zeros((N_FUNCTIONS, N_INSTANCES), dtype=int)
    for of_function in labels:
        for half in (0, 1):  # that are every other instance
            of_function[half + 2 * draw.choice(N_INSTANCES // 2, N_POSITIVE // 2, replace=False)] = 1
    activations = draw.normal(size=(N_NEURONS, N_INSTANCES))
    for function in range(N_FUNCTIONS):
        first = SIZE * function
        activations[first : first + OWN + SHARED] += labels[function]
        activations[first + OWN : first + OWN + SHARED] += labels[(function + 1) % N_FUNCTIONS]
    found = score(np.maximum(activations, 0).astype(np.float32), label_index(labels))
    store = Store(tmp_path_factory.mktemp("modules") / "store")
    scores = {name: found.scores[:, :, place].ravel() for place, name in enumerate(SCORE_NAMES)}
    add_run(
        store, RUN, n_layers=1, n_neurons=N_NEURONS, functions=FUNCTIONS,
        prevalence=(N_POSITIVE / N_INSTANCES,) * N_FUNCTIONS, scores=scores | {"p_value": found.p_value.ravel()},
    )  # fmt: skip
    add_partition(store, PARTITION, (np.arange(N_NEURONS) // SIZE)[None])
    align_partition(PARTITION, store=store.path, run=RUN, n_permutations=99)
    return Database(store)


def test_the_expert_of_every_module_is_functional_and_no_expert_without_one(database):
    query = "select expert, function from functional_experts where level = 'function' and is_significant"
    rows = database.sql(query).rows()
    assert {*rows} >= PLANTED
    assert {expert for expert, _ in rows} == set(range(N_FUNCTIONS))


def test_the_papers_ranking_finds_none_of_them(database):
    # Where positives are rare it is the complement's average precision, near one of every neuron.
    query = "select expert, function from functional_experts_by('predictivity') where level = 'function'"
    assert not PLANTED & {*database.sql(query).rows()}


@pytest.mark.parametrize("half", ["all", "a", "b"])
def test_every_module_is_found_by_the_tests_of_alignments(database, half):
    query = """
        select expert, function from alignment_tests
        where level = 'function' and half = ? and is_significant and null_model = 'free'
    """
    rows = database.sql(query, [half]).rows()
    assert {*rows} >= PLANTED
    assert {expert for expert, _ in rows} == set(range(N_FUNCTIONS))
