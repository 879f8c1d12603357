"""The tests of `neuronlake align`: their q values, and which of half a stay on half b."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from neuronlake.queries.database import Database
from neuronlake.schema.conformance import arrow_schema
from neuronlake.schema.store import Store
from neuronlake.schema.tables import table

RUN, PARTITION = "a" * 16, "1" * 16
ALIGNMENTS = ("4" * 16, "5" * 16)
Row = dict[str, object]


@pytest.fixture
def aligned(store: Store, partition: Callable[..., None]) -> Callable[..., Database]:
    """Return a function that commits a partition and its alignments, given what is not common, and opens the store."""

    def make(*rows: Row, **described: str | None) -> Database:
        partition(store, PARTITION, np.asarray([[0] * 5]), **described)
        common = {
            "alignment_id": ALIGNMENTS[0],
            "run_id": RUN,
            "model": "tiny",
            "revision": "main",
            "step": None,
            "partition_id": PARTITION,
            "null_model": "free",
            "half": "all",
            "stack": "encoder",
            "layer": 0,
            "expert": 0,
            "family": "task",
            "function": "sport",
            "n_neurons": 5,
            "n_top": 2,
            "n_expected": 0.5,
            "p_nominal": 0.1,
            "n_permutations": 999,
            "seed": 0,
        }
        data = pa.Table.from_pylist([common | row for row in rows], schema=arrow_schema(table("alignments")))
        with store.job(ALIGNMENTS[0], kind="alignment") as job:
            job.write("alignments", data)
            job.commit()
        return Database(store)

    return make


def test_q_values_are_of_benjamini_and_hochberg_over_experts_layers_and_functions(aligned) -> None:
    p_values = [0.001, 0.03, 0.03, 0.04, 0.9, 1, 0.03, 0.002]
    rows = [
        {"p_value": p_value, "layer": index % 2, "expert": index // 2 % 2, "function": "fg"[index // 4]}
        for index, p_value in enumerate(p_values)
    ]
    database = aligned(*rows)
    query = "select p_value, q_value, is_significant from alignment_tests order by p_value"
    q_values = stats.false_discovery_control(np.sort(p_values)).tolist()
    expected = [(p, pytest.approx(q), q <= 0.05) for p, q in zip(sorted(p_values), q_values, strict=True)]
    assert database.sql(query).rows() == expected
    assert {each for *_, each in expected} == {False, True}


def test_tests_that_do_not_say_what_chose_their_top_neurons_are_by_lift(aligned) -> None:
    rows = [{"p_value": 0.1}, {"p_value": 0.2, "alignment_id": ALIGNMENTS[1], "ranking": "predictivity"}]
    query = "select ranking, p_value from alignment_tests order by p_value"
    assert aligned(*rows).sql(query).rows() == [("lift", 0.1), ("predictivity", 0.2)]


@pytest.mark.parametrize(
    "other",
    [
        {"alignment_id": ALIGNMENTS[1]},
        {"null_model": "matched"},
        {"half": "a"},
        {"function": "*"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_is_tested_apart_is_adjusted_apart(aligned, other: Row) -> None:
    rows = [{"p_value": 0.02}, {"p_value": 0.04, "expert": 1}]
    apart = [{**row, **other, "p_value": 0.5} for row in rows]
    database = aligned(*rows, *apart)
    query = "select p_value, q_value from alignment_tests order by all"
    assert database.sql(query).rows() == [(0.02, 0.04), (0.04, 0.04), (0.5, 0.5), (0.5, 0.5)]


def test_a_star_is_the_family_and_what_is_not_expected_has_no_enrichment(aligned) -> None:
    database = aligned({"p_value": 0.5}, {"p_value": 1, "function": "*", "n_top": 0, "n_expected": 0})
    query = "select level, family, function, n_top, enrichment from alignment_tests order by all"
    assert database.sql(query).rows() == [("family", "task", "*", 0, None), ("function", "task", "sport", 2, 4)]


def test_tests_say_how_the_partition_was_made(aligned) -> None:
    database = aligned({"p_value": 0.5, "half": "b"}, method="function", half="a")
    query = "select partition_id, method, partition_half, half from alignment_tests"
    assert database.sql(query).rows() == [(PARTITION, "function", "a", "b")]


@pytest.mark.parametrize(("half", "n_held_out"), [(None, 1), ("a", 1), ("b", 0), ("all", 0)])
def test_partitions_made_of_scores_on_half_b_are_not_held_out(aligned, half: str | None, n_held_out: int) -> None:
    database = aligned({"half": "a", "p_value": 0.001}, {"half": "b", "p_value": 0.03}, half=half)
    assert database.sql("select count(*) from held_out_experts").rows() == [(n_held_out,)]


@pytest.mark.parametrize(
    ("halves_of_run", "halves_of_maker", "seen"),
    [(None, "text", "a"), ("text", None, "a"), ("word", "word", "a"), ("word", None, "all"), ("text", "word", "all")],
)
def test_a_half_of_another_kind_has_instances_of_both(store, run, aligned, halves_of_run, halves_of_maker, seen):
    small = {"n_layers": 1, "n_neurons": 5}
    run(store, RUN, halves=halves_of_run, **small)
    run(store, "b" * 16, revision="other", halves=halves_of_maker, **small)
    rows = ({"half": "a", "p_value": 0.001}, {"half": "b", "p_value": 0.03})
    database = aligned(*rows, method="function", half="a", run_id="b" * 16)
    assert database.sql("select distinct partition_half from alignment_tests").rows() == [(seen,)]
    assert database.sql("select count(*) from held_out_experts").rows() == [(int(seen == "a"),)]
    query = "select distinct partition_half from expert_function_alignment where run_id = ?"
    assert database.sql(query, [RUN]).rows() == [(seen,)]


def test_only_what_is_significant_on_half_a_is_held_out(aligned) -> None:
    database = aligned(
        {"half": "all", "expert": 0, "p_value": 0.001},
        {"half": "a", "expert": 0, "p_value": 0.9},
        {"half": "b", "expert": 0, "p_value": 0.001},
        {"half": "a", "expert": 1, "p_value": 0.001, "n_top": 3},
        {"half": "b", "expert": 1, "p_value": 0.03, "n_top": 1},
    )
    query = (
        "select expert, level, n_neurons, n_top_half_a, enrichment_half_a, q_value_half_a, n_top_half_b, "
        "enrichment_half_b, p_value, q_value, is_replicated from held_out_experts"
    )
    assert database.sql(query).rows() == [(1, "function", 5, 3, 6, 0.002, 1, 2, 0.03, 0.03, True)]


def test_held_out_q_values_are_over_the_chosen_that_half_b_can_test(aligned) -> None:
    on_half_b = {0: 0.03, 1: 0.04, 2: 0.6, 3: None}
    rows: list[Row] = [{"half": "a", "expert": expert, "p_value": 0.001} for expert in on_half_b]
    rows += [{"half": "b", "expert": expert, "p_value": p} for expert, p in on_half_b.items() if p is not None]
    query = "select expert, p_value, q_value, is_replicated from held_out_experts order by expert"
    expected = [
        (0, 0.03, pytest.approx(0.06), False),
        (1, 0.04, pytest.approx(0.06), False),
        (2, 0.6, pytest.approx(0.6), False),
        (3, None, None, None),
    ]
    assert aligned(*rows).sql(query).rows() == expected


@pytest.mark.parametrize(
    "other", [{"null_model": "matched"}, {"alignment_id": ALIGNMENTS[1]}, {"function": "*"}], ids=str
)
def test_a_test_is_held_out_by_its_own_kind(aligned, other: Row) -> None:
    database = aligned(
        {"half": "a", "p_value": 0.001},
        {"half": "b", "p_value": 0.01},
        {**other, "half": "a", "p_value": 0.001},
        {**other, "half": "b", "p_value": 0.9},
    )
    query = "select p_value, q_value, is_replicated from held_out_experts order by p_value"
    assert database.sql(query).rows() == [(0.01, 0.01, True), (0.9, 0.9, False)]


@pytest.mark.parametrize("view", ["alignment_tests", "held_out_experts"])
@pytest.mark.parametrize(
    ("key", "value"), [("run_id", RUN), ("partition_id", PARTITION), ("alignment_id", ALIGNMENTS[0])]
)
def test_a_filter_reaches_the_files(
    aligned, filters: Callable[..., list[str]], view: str, key: str, value: str
) -> None:
    of_half_a = {"half": "a", "p_value": 0.001}
    database = aligned(of_half_a, {**of_half_a, "alignment_id": ALIGNMENTS[1], key: "other"})
    assert set(filters(database, f"from {view} where {key} = '{value}'", "n_expected")) == {f"{key} = '{value}'"}
    assert database.sql(f"select count(*) from {view} where {key} = '{value}'").rows() == [(1,)]
