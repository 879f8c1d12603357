"""Experts beside control functions: what views and `align` say where labels were permuted."""

import numpy as np
import polars as pl
import pytest

from neuronlake.analysis.alignment.job import align_partition
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

RUN, PARTITION = "a" * 16, "1" * 16
FUNCTIONS = (("knowledge", "capital"), ("knowledge", "currency"), ("task", "sport"))
PREVALENCE = (0.5, 0.3, 0.1)
N_NEURONS, N_TOP = 400, 4


def scores(tops):
    """Return the scores of one layer whose top neurons are these, [functions, top]."""
    rise = np.tile(-np.arange(N_NEURONS) / 1e4, (3, 1))
    np.put_along_axis(rise, tops, 0.4 - np.arange(N_TOP) / 100, axis=1)
    return {"ap": (np.asarray(PREVALENCE) + rise.T / 2 + 0.05).ravel().astype(np.float32)}


@pytest.fixture(scope="module")
def store(tmp_path_factory, run, partition, controls):
    """Return a store of 8 experts of 50: 0 is capital's, 1 is as much of what has permuted words; not to be written."""
    store = Store(tmp_path_factory.mktemp("controls") / "store")
    tops = np.asarray([[0, 1, 2, 3], [50, 51, 52, 53], [60, 61, 62, 370]])
    chance = {name: 1 - np.asarray(PREVALENCE) - 0.2 for name in ("ap_complement",)}
    given = scores(tops) | {name: np.tile(each, N_NEURONS).astype(np.float32) for name, each in chance.items()}
    for half in ("a", "b"):
        given |= {f"{name}_half_{half}": given[name] for name in ("ap", "ap_complement")}
    settings = {"n_layers": 1, "n_neurons": N_NEURONS, "functions": FUNCTIONS, "prevalence": PREVALENCE}
    run(store, RUN, scores=given, **settings)
    run(store, "b" * 16, revision="other", scores=given, **settings)
    partition(store, PARTITION, np.arange(N_NEURONS)[None] // 50)
    generator = np.random.default_rng(0)
    by_text = np.stack([generator.permutation(np.arange(100, 398))[:12].reshape(1, 3, 4) for _ in range(2)])
    by_word = by_text.copy()
    by_word[:, :, :, :3] = np.asarray([50, 55, 60])  # expert 1 holds three of every list
    by_word[0, 0, 2, :3] = by_text[0, 0, 2, :3]
    controls(store, RUN, {"text": by_text, "word": by_word}, functions=FUNCTIONS, prevalence=PREVALENCE)
    return store


@pytest.fixture(scope="module")
def database(store):
    """Return a database over it."""
    return Database(store)


def test_enrichment_stands_beside_that_of_the_control_which_has_most(database):
    query = "select function, expert, enrichment, control_enrichment, selectivity from expert_function_alignment"
    rows = database.sql(f"{query} where run_id = '{RUN}' and expert < 2 order by all").rows()
    assert rows == [
        ("capital", 0, 8, 0, 8),
        ("capital", 1, 0, 6, -6),
        ("currency", 0, 0, 0, 0),
        ("currency", 1, 8, 6, 2),
        ("sport", 0, 0, 0, 0),
        ("sport", 1, 6, 3, 3),
    ]
    query = "select family, expert, enrichment, control_enrichment, selectivity from expert_family_alignment"
    rows = database.sql(f"{query} where run_id = '{RUN}' and expert < 2 order by all").rows()
    assert rows == [
        ("knowledge", 0, 4, 0, 4),
        ("knowledge", 1, 4, 6, -2),
        ("task", 0, 0, 0, 0),
        ("task", 1, 6, 3, 3),
    ]


def test_functional_experts_tell_real_from_control(database):
    query = "select expert, function, control_enrichment, selectivity from functional_experts where run_id = ? "
    rows = database.sql(query + "and level = 'function' order by all", [RUN]).rows()
    assert rows == [(0, "capital", 0, 8), (1, "currency", 6, 2)]


def test_a_run_without_controls_has_null_beside_its_enrichment(database):
    for view in ("expert_function_alignment", "expert_family_alignment", "functional_experts"):
        query = f"select distinct control_enrichment, selectivity from {view} where run_id = ?"
        assert database.sql(query, ["b" * 16]).rows() == [(None, None)]
    query = "select distinct control_proportion, control_degree from modularization where run_id = ?"
    assert database.sql(query, ["b" * 16]).rows() == [(None, None)]


def test_modularization_stands_beside_that_of_the_control_functions(database):
    # Three of four top neurons in an expert of an eighth have p .0064, four .00022: none of permuted words is.
    query = "select family, proportion, degree, control_proportion, control_degree from modularization where run_id = ?"
    rows = database.sql(query + " order by all", [RUN]).rows()
    assert rows == [("knowledge", 1 / 8, 8, 0, 0), ("task", 0, 0, 0, 0)]


def test_functional_pairs_of_control_functions_make_their_proportion_and_degree(tmp_path, run, partition, controls):
    store = Store(tmp_path / "store")
    run(store, RUN, n_layers=1, n_neurons=N_NEURONS, functions=FUNCTIONS[:1], prevalence=(0.5,))
    partition(store, PARTITION, np.arange(N_NEURONS)[None] // 50)
    spread = np.asarray([0, 50, 100, 150])
    tops = np.stack([np.arange(4), spread]).reshape(2, 1, 1, 4)  # one of two draws is functional
    given = {"functions": FUNCTIONS[:1], "prevalence": (0.5,)}
    controls(store, RUN, {"text": spread.reshape(1, 1, 1, 4), "word": tops}, **given)
    query = "select control_proportion, control_degree from modularization"
    assert Database(store).sql(query).rows() == [(1 / 16, 4)]


@pytest.fixture
def partly_controlled(tmp_path, run, partition, controls):
    """Return a store of 200 neurons, the first half best at sport, of which there is no control, as of currency."""
    store = Store(tmp_path / "store")
    neuron, function = np.indices((200, 3)).reshape(2, -1)
    is_best = (function == 2) == (neuron < 100)
    given = {"p_value": np.where(is_best, 1e-6, 0.5), "ap": np.asarray(PREVALENCE)[function] + is_best * 0.4}
    given |= {"ap_complement": 1 - np.asarray(PREVALENCE)[function]}
    run(store, RUN, scores=given, n_layers=1, n_neurons=200, functions=FUNCTIONS, prevalence=PREVALENCE)
    partition(store, PARTITION, np.arange(200)[None] // 25)
    tops = np.asarray([0, 1]).reshape(1, 1, 1, 2)
    controls(store, RUN, {"word": tops}, functions=FUNCTIONS[:1], prevalence=PREVALENCE[:1])
    return Database(store)


def test_a_neuron_whose_best_function_has_no_control_is_not_said_to_be_selective(partly_controlled):
    query = (
        "select neuron < 100, count(*), count(control_lift), count(selectivity), count(control_q_value), "
        "count(is_selective) from specialization group by all order by all"
    )
    assert partly_controlled.sql(query).rows() == [(False, 100, *[100] * 4), (True, 100, 0, 0, 0, 0)]
    query = "select max(control_q_value) from specialization"
    assert partly_controlled.sql(query).rows() == [(pytest.approx(1 / 100),)]


def test_a_family_of_which_some_functions_have_no_control_counts_as_if_all_had(partly_controlled):
    query = "select family, control_enrichment from expert_family_alignment where expert = 0 order by all"
    # Both of the two neurons of one list of a control are in expert 0 of 8: of two lists four would be.
    assert partly_controlled.sql(query).rows() == [("knowledge", 8), ("task", None)]


@pytest.fixture(scope="module")
def aligned(store):
    """Return the report and rows of the alignment of the run with controls."""
    (report,) = align_partition(PARTITION, store=store.path, run=RUN, n_permutations=99)
    return report, pl.read_parquet(list(store.files("alignments")))


def test_align_tests_against_each_control_that_the_run_has(aligned):
    report, rows = aligned
    assert report.null_models == ("free", "control-text", "control-word")
    assert "free and control-text and control-word null" in report.describe()
    counts = rows.group_by("null_model", "half").len()
    assert counts.sort("null_model", "half")["len"].to_list() == [8 * 5] * 9
    assert rows["smallest_p"].is_not_null().all()
    assert (rows["smallest_p"] <= rows["p_value"] * (1 + 1e-9)).all()


def test_what_permuted_words_give_an_expert_is_expected_of_it_and_not_significant(store, aligned):
    database = Database(store)
    query = (
        "select null_model, p_value < .002, n_expected, control_enrichment, selectivity from alignment_tests "
        "where function = 'currency' and half = 'all' and expert = 1 order by null_model"
    )
    # Of six control lists five hold three of its neurons; two more count as the free null would have them.
    assert database.sql(query).rows() == [
        ("control-text", True, 0.5, 4, 4),
        ("control-word", False, 4 * (15 + 1) / 32, 4, 4),
        ("free", True, 0.5, 4, 4),
    ]


def test_the_smallest_p_is_that_of_the_whole_list_in_the_expert(store, aligned):
    query = "select distinct smallest_p from alignment_tests where null_model = 'free' and level = 'function'"
    exact = 50 * 49 * 48 * 47 / (400 * 399 * 398 * 397)
    assert Database(store).sql(query).rows() == [(pytest.approx(exact, rel=1e-9),)]


def test_controls_that_a_run_gains_make_another_alignment(tmp_path, run, partition, controls):
    store = Store(tmp_path / "store")
    run(store, RUN, n_layers=1, n_neurons=N_NEURONS, functions=FUNCTIONS, prevalence=PREVALENCE)
    partition(store, PARTITION, np.arange(N_NEURONS)[None] // 50)
    (first,) = align_partition(PARTITION, store=store.path, run=RUN, n_permutations=9)
    tops = np.arange(12).reshape(1, 1, 3, 4)
    controls(store, RUN, {"word": tops}, functions=FUNCTIONS, prevalence=PREVALENCE)
    (second,) = align_partition(PARTITION, store=store.path, run=RUN, n_permutations=9)
    (again,) = align_partition(PARTITION, store=store.path, run=RUN, n_permutations=9)
    assert [report.is_new for report in (first, second, again)] == [True, True, False]
    assert first.alignment_id != second.alignment_id == again.alignment_id
