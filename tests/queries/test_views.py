"""The views against an independent computation over the same files, in numpy and plain Python."""

from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

RUN = "aaaaaaaaaaaaaaaa"
VIEWS_OF_SCORES = ("specialization", "top_neurons", "held_out_top_neurons", "function_similarity", "best_predictivity")


def lift(ap: float, complement: float, prevalence: float) -> float:
    return max(ap - prevalence, complement - 1 + prevalence) / max(prevalence, 1 - prevalence)


def held_out_lift(chosen: tuple[float, float], scored: tuple[float, float], prevalence: float) -> float:
    """Return the lift of `scored` (ap and ap_complement) in the direction that is better in `chosen`."""
    gains = [scored[0] - prevalence, scored[1] - 1 + prevalence]
    is_complement = chosen[0] - prevalence < chosen[1] - 1 + prevalence
    return gains[is_complement] / max(prevalence, 1 - prevalence)


def scores_of(store: Store, run_id: str = RUN) -> pl.DataFrame:
    """Read one run's scores, with lifts, straight from the files."""
    scores = pl.read_parquet(list(store.files("neuron_functions"))).filter(pl.col("run_id") == run_id)
    functions = pl.read_parquet(list(store.files("run_functions"))).filter(pl.col("run_id") == run_id)
    joined = scores.join(functions.select("family", "function", "prevalence"), on=["family", "function"])
    for half in ("", "_half_a", "_half_b"):
        columns = joined.select(f"ap{half}", f"ap_complement{half}", "prevalence").rows()
        # Both halves of the generated runs have the prevalence of the whole.
        joined = joined.with_columns(
            pl.Series(f"lift{half}", [lift(*row) for row in columns]),
            pl.Series(f"predictivity{half}", [max(row[0], row[1]) for row in columns]),
        )
    halves = joined.select(
        "ap_half_a", "ap_complement_half_a", "ap_half_b", "ap_complement_half_b", "prevalence"
    ).rows()
    joined = joined.with_columns(
        pl.Series("held_out_lift_a", [held_out_lift(row[2:4], row[:2], row[4]) for row in halves]),
        pl.Series("held_out_lift_b", [held_out_lift(row[:2], row[2:4], row[4]) for row in halves]),
        pl.Series("held_out_predictivity_a", [row[0] if row[2] >= row[3] else row[1] for row in halves]),
        pl.Series("held_out_predictivity_b", [row[2] if row[0] >= row[1] else row[3] for row in halves]),
    )
    return joined.sort("layer", "neuron", "family", "function")


@pytest.mark.parametrize(
    ("ap", "complement", "prevalence", "expected"),
    [
        (0.1, 0.9, 0.1, 0.0),
        (1.0, 0.95, 0.1, 1.0),
        (0.5, 1.0, 0.9, 1.0),
        (0.05, 0.9, 0.1, 0.0),
        (0.8, 0.6, 0.5, 0.6),
    ],
)
def test_lift_is_zero_at_chance_and_one_at_best(
    empty: Database, ap: float, complement: float, prevalence: float, expected: float
) -> None:
    query = "select lift(?, ?, ?), lift(?, ?, ?)"
    values = empty.sql(query, [ap, complement, prevalence, complement, ap, 1 - prevalence]).rows()[0]
    assert values == pytest.approx((expected, expected))


def test_lift_and_predictivity_of_null_are_null(empty: Database) -> None:
    query = "select predictivity(null, null), lift(.5, .5, null), lift(null, null, .5)"
    assert empty.sql(query).rows() == [(None, None, None)]


def test_specialization_is_the_best_function_by_lift_where_p_is_unknown(filled: Store, database: Database) -> None:
    found = {(row["layer"], row["neuron"]): row for row in database.sql("from specialization where run_id = ?", [RUN])}
    assert len(found) == 400
    counts = {row["function"]: row for row in database.sql("from run_functions where run_id = ?", [RUN])}

    def evidence(row: dict[str, Any]) -> float:
        positive, negative = (counts[row["function"]][f"n_{name}_half_a"] for name in ("positive", "negative"))
        (mean, deviation), (opposite, spread) = moments(positive, negative), moments(negative, positive)
        return max((row["ap_half_a"] - mean) / deviation, (row["ap_complement_half_a"] - opposite) / spread)

    for key, rows in scores_of(filled).group_by(["layer", "neuron"]):
        ranked = sorted(rows.iter_rows(named=True), key=lambda row: -row["lift"])
        best = ranked[0]
        second = next(row for row in ranked if row["family"] != best["family"])
        chosen = max(rows.iter_rows(named=True), key=evidence)
        view = found[key]
        assert (view["family"], view["function"]) == (best["family"], best["function"])
        assert view["second_family"] == second["family"]
        assert (view["held_out_family"], view["held_out_function"]) == (chosen["family"], chosen["function"])
        assert view["direction"] == (
            "positive"
            if best["ap"] - best["prevalence"] >= best["ap_complement"] - 1 + best["prevalence"]
            else "complement"
        )
        for name, expected in {
            "lift": best["lift"],
            "predictivity": best["predictivity"],
            "prevalence": best["prevalence"],
            "second_family_lift": second["lift"],
            "margin": best["lift"] - second["lift"],
            "held_out_lift": chosen["held_out_lift_b"],
        }.items():
            assert view[name] == pytest.approx(expected, abs=1e-6), name


@cache
def moments(n_positive: int, n_negative: int) -> tuple[float, float]:
    """Return mean and standard deviation of average precision over random arrangements of labels."""
    n = n_positive + n_negative
    draw = np.random.default_rng(0)
    labels = draw.permuted(np.tile(np.arange(n) < n_positive, (10_000, 1)), axis=1).astype(float)
    scores = (labels * labels.cumsum(axis=1) / np.arange(1, n + 1)).sum(axis=1) / n_positive
    return float(scores.mean()), float(scores.std())


@pytest.mark.parametrize("n_positive", [1, 2, 3, 5, 8])
def test_chance_of_average_precision_is_that_of_all_arrangements_of_labels(empty: Database, n_positive: int) -> None:
    arrangements = list(combinations(range(1, 10), n_positive))
    scores = [np.mean([place / rank for place, rank in enumerate(ranks, 1)]) for ranks in arrangements]
    query = (
        "select chance_ap($positive, 9, harmonic(9)), "
        "chance_ap_deviation($positive, 9, harmonic(9), harmonic_squares(9))"
    )
    assert empty.sql(query, {"positive": n_positive}).rows() == [
        (pytest.approx(np.mean(scores), abs=1e-5), pytest.approx(np.std(scores), abs=1e-5))
    ]


def test_a_half_without_instances_has_no_evidence(store: Store, run: Callable[..., None]) -> None:
    run(store, RUN, n_layers=1, n_neurons=4, half=(0, 0), scores=dict.fromkeys(("ap_half_a", "ap_complement_half_a")))
    assert Database(store).sql("select distinct evidence_half_a from neuron_scores").rows() == [(None,)]
    assert Database(store).sql("select distinct held_out_function from specialization").rows() == [(None,)]


def test_where_labels_mean_nothing_no_family_is_the_best_more_often_than_its_share_of_functions(
    store: Store, run: Callable[..., None]
) -> None:
    # Two functions of 16 instances a class, eight of 150: luck reaches higher scores in the two.
    draw = np.random.default_rng(0)
    functions = [*(("small", str(place)) for place in range(2)), *(("large", str(place)) for place in range(8))]
    n_instances, n_neurons = np.array([32] * 2 + [300] * 8), 400
    noise = draw.normal(size=(n_neurons, 10)) / np.sqrt(n_instances)
    scores = {"p_value": 2 * stats.norm.sf(np.abs(noise) * np.sqrt(n_instances)).ravel()}
    for name, sign in (("ap", 1), ("ap_complement", -1)):
        scores[name] = np.clip(0.5 + sign * noise.ravel(), 0, 1)
    run(store, RUN, n_layers=1, n_neurons=n_neurons, functions=functions, prevalence=[0.5] * 10, scores=scores)
    database = Database(store)
    lifts = "select arg_max(family, lift) as family from neuron_scores group by neuron"
    shares = [
        database.sql(f"select avg((family = 'small')::int) from ({query})").rows()[0][0]
        for query in ("from specialization", lifts)
    ]
    assert shares[0] == pytest.approx(0.2, abs=0.06)
    assert shares[1] > 0.6


def test_best_predictivity_is_the_mean_over_functions_of_the_best_neuron(filled: Store, database: Database) -> None:
    found = {(row["layer"], row["family"]): row for row in database.sql("from best_predictivity where step = 0")}
    for (layer, family), rows in scores_of(filled).group_by(["layer", "family"]):
        functions = [each for _, each in rows.group_by("function")]
        view = found[layer, family]
        expected = {
            "best_predictivity": [each["predictivity"].max() for each in functions],
            "best_ap": [each["ap"].max() for each in functions],
            "best_lift": [each["lift"].max() for each in functions],
            "chance": [max(each["prevalence"][0], 1 - each["prevalence"][0]) for each in functions],
            "held_out_predictivity": [_held_out(each, "predictivity") for each in functions],
            "held_out_lift": [_held_out(each, "lift") for each in functions],
        }
        for name, values in expected.items():
            assert view[name] == pytest.approx(np.mean(values), abs=1e-6), name
        assert view["n_functions"] == view["n_held_out_functions"] == len(functions)
    assert len(found) == 6


def _held_out(scores: pl.DataFrame, name: str) -> float:
    a, b = scores[f"{name}_half_a"].to_numpy(), scores[f"{name}_half_b"].to_numpy()
    held_out_a, held_out_b = scores[f"held_out_{name}_a"].to_numpy(), scores[f"held_out_{name}_b"].to_numpy()
    return float(held_out_b[a.argmax()] + held_out_a[b.argmax()]) / 2


def test_functions_without_scored_halves_are_left_out_of_the_held_out_columns(
    store: Store, run: Callable[..., None]
) -> None:
    # The functions are capital, currency, bank, bat, sport; currency (a knowledge function) has no half b.
    half = np.full(5 * 100, 0.5, dtype=np.float32)
    half[1::5] = np.nan
    run(store, RUN, n_layers=1, n_neurons=100, scores={"ap_half_b": half, "ap_complement_half_b": half})
    rows = list(Database(store).sql("from best_predictivity order by family"))
    assert [(row["family"], row["n_functions"], row["n_held_out_functions"]) for row in rows] == [
        ("knowledge", 2, 1),
        ("semantic", 2, 2),
        ("task", 1, 1),
    ]
    assert all(row["held_out_predictivity"] is not None for row in rows)


def test_ties_go_to_the_lower_neuron_and_the_first_function_by_name(store: Store, run: Callable[..., None]) -> None:
    same = np.full(5 * 200, 0.5, dtype=np.float32)
    names = ("ap", "ap_complement", "ap_half_a", "ap_half_b", "ap_complement_half_a", "ap_complement_half_b")
    run(store, RUN, n_layers=1, prevalence=(0.5,) * 5, scores=dict.fromkeys(names, same))
    database = Database(store)
    assert database.sql("select distinct family, function, second_family, direction from specialization").rows() == [
        ("knowledge", "capital", "semantic", "positive")
    ]
    assert database.sql("select distinct rank, neuron from top_neurons order by rank").rows() == [(1, 0), (2, 1)]


def test_without_prevalence_predictivity_ranks_and_lift_is_null(store: Store, run: Callable[..., None]) -> None:
    scores = np.tile(np.asarray([0.5, 0.6, 0.9, 0.7, 0.8], dtype=np.float32), 100)
    run(
        store, RUN, n_layers=1, n_neurons=100, with_prevalence=False, scores={"ap": scores, "ap_complement": scores / 2}
    )
    database = Database(store)
    query = "select distinct family, function, second_family, lift, margin, held_out_lift from specialization"
    assert database.sql(query).rows() == [("semantic", "bank", "task", None, None, None)]
    assert len(database.sql("from top_neurons where lift is null")) == 5
    query = "select distinct n_held_out_functions, chance, best_lift from best_predictivity where family = 'semantic'"
    assert database.sql(query).rows() == [(2, None, None)]


def test_one_family_has_no_second_and_no_margin(store: Store, run: Callable[..., None]) -> None:
    run(store, RUN, functions=(("task", "a"), ("task", "b")), prevalence=(0.5, 0.1))
    query = "select distinct second_family, second_family_lift, margin from specialization"
    assert Database(store).sql(query).rows() == [(None, None, None)]


def test_top_neurons_are_the_best_hundredth_by_lift(filled: Store, database: Database) -> None:
    query = "select layer, family, function, list(neuron order by rank) from top_neurons where step = 0 group by all"
    found = {(layer, family, function): neurons for layer, family, function, neurons in database.sql(query).rows()}
    assert len(found) == 10
    for key, rows in scores_of(filled).group_by(["layer", "family", "function"]):
        assert found[key] == rows.sort("lift", descending=True)["neuron"].to_list()[:2]
    assert database.sql("select distinct n_top from top_neurons").rows() == [(2,)]


def test_a_layer_of_few_neurons_has_one_top_neuron(store: Store, run: Callable[..., None]) -> None:
    run(store, RUN, n_neurons=20)
    assert Database(store).sql("select distinct n_top, rank from top_neurons").rows() == [(1, 1)]


def test_held_out_top_neurons_are_the_best_hundredth_on_each_half(filled: Store, database: Database) -> None:
    query = (
        "select half, layer, family, function, list(neuron order by rank) from held_out_top_neurons where step = 0 "
        "group by all"
    )
    found = {row[:4]: row[4] for row in database.sql(query).rows()}
    assert len(found) == 20
    for key, rows in scores_of(filled).group_by(["layer", "family", "function"]):
        for half in ("a", "b"):
            best = rows.sort(f"lift_half_{half}", descending=True)["neuron"].to_list()[:2]
            assert found[half, *key] == best
    assert database.sql("select distinct n_top from held_out_top_neurons").rows() == [(2,)]


def test_neurons_without_a_score_on_a_half_are_not_its_top_neurons(store: Store, run: Callable[..., None]) -> None:
    # Of 200 neurons two would be listed: on half a none has a score, on half b one.
    half_b = np.full(200, np.nan, dtype=np.float32)
    half_b[150] = 0.6
    scores = {"ap_half_b": half_b, "ap_complement_half_b": half_b, "ap_half_a": None, "ap_complement_half_a": None}
    run(store, RUN, n_layers=1, functions=(("task", "a"),), prevalence=(0.5,), scores=scores)
    query = "select half, rank, neuron, n_top from held_out_top_neurons order by all"
    assert Database(store).sql(query).rows() == [("b", 1, 150, 2)]


def test_imported_scores_rank_by_themselves_and_have_no_direction(store: Store, run: Callable[..., None]) -> None:
    missing = dict.fromkeys(
        ("ap_complement", "ap_half_a", "ap_half_b", "ap_complement_half_a", "ap_complement_half_b", "auroc"), None
    )
    scores = np.linspace(0.1, 0.9, 100, dtype=np.float32)
    run(
        store, RUN, n_layers=1, n_neurons=100, functions=(("task", "a"),), prevalence=(0.5,), with_prevalence=False,
        scores={"ap": scores, **missing},
    )  # fmt: skip
    database = Database(store)
    query = "select ranking, predictivity, direction, lift, ranking_half_a, ranking_half_b from neuron_scores"
    rows = database.sql(f"{query} order by neuron").rows()
    assert [row[0] for row in rows] == [row[1] for row in rows] == pytest.approx(list(scores))
    assert {row[2:] for row in rows} == {(None,) * 4}
    assert database.sql("select neuron, direction from top_neurons").rows() == [(99, None)]
    assert database.sql("select distinct direction from specialization").rows() == [(None,)]


def test_coverage_of_a_run_of_which_little_is_known_is_there(store: Store, run: Callable[..., None]) -> None:
    unknown = dict.fromkeys(("corpus", "corpus_sha256", "site", "pooling", "dtype", "max_tokens"), None)
    run(store, RUN, n_layers=1, n_neurons=100, functions=(("task", "a"),), prevalence=(0.5,), **unknown)
    query = "select corpus, site, dtype, n_neurons_held, n_neurons_expected from coverage"
    assert Database(store).sql(query).rows() == [(None, None, None, 100, 100)]


def test_p_values_of_best_functions_are_corrected_for_the_functions_and_the_neurons(
    store: Store, run: Callable[..., None]
) -> None:
    generator = np.random.default_rng(0)
    p_values = generator.choice([1e-6, 1e-4, 0.001, 0.01, 0.2, 0.9], 5 * 200, p=[0.02, 0.02, 0.03, 0.03, 0.4, 0.5])
    run(store, RUN, n_layers=1, scores={"p_value": p_values})
    run(store, "b" * 16, n_layers=1, scores={"p_value": p_values[::-1].copy()})
    best = {neuron: rows["p_value"].min() for (neuron,), rows in scores_of(store).group_by("neuron")}
    expected_p = [min(1, 5 * best[neuron]) for neuron in range(200)]
    expected_q = stats.false_discovery_control(expected_p)
    query = "select p_value, q_value, is_significant from specialization where run_id = ? order by neuron"
    rows = Database(store).sql(query, [RUN]).rows()
    assert [row[0] for row in rows] == pytest.approx(expected_p)
    assert [row[1] for row in rows] == pytest.approx(expected_q)
    assert [row[2] for row in rows] == list(expected_q <= 0.05)
    assert 20 < sum(row[2] for row in rows) < 180


def test_neurons_without_a_p_value_have_no_q_value_and_count_in_none(store: Store, run: Callable[..., None]) -> None:
    p_values = np.asarray([0.04, np.nan, 0.01, 0.02])
    run(
        store, RUN, n_layers=1, n_neurons=4, functions=(("task", "a"),), prevalence=(0.5,),
        scores={"p_value": p_values},
    )  # fmt: skip
    query = "select p_value, q_value, is_significant from specialization order by neuron"
    assert Database(store).sql(query).rows() == [
        (pytest.approx(0.04), pytest.approx(0.04), True),
        (None, None, None),
        (pytest.approx(0.01), pytest.approx(0.03), True),
        (pytest.approx(0.02), pytest.approx(0.03), True),
    ]


def test_function_similarity_is_the_overlap_of_top_neurons(store: Store, run: Callable[..., None]) -> None:
    run(store, RUN, n_neurons=960, seed=5)
    tops = {}
    for (layer, family, function), rows in scores_of(store).group_by(["layer", "family", "function"]):
        tops[layer, family, function] = set(rows.sort("lift", descending=True)["neuron"].to_list()[:10])
    expected = {(*a, *b[1:]): len(tops[a] & tops[b]) / 10 for a, b in combinations(sorted(tops), 2) if a[0] == b[0]}
    database = Database(store)
    query = "select layer, family_a, function_a, family_b, function_b, overlap from function_similarity"
    assert {row[:-1]: row[-1] for row in database.sql(query).rows()} == expected
    assert sum(expected.values()) > 0
    assert database.sql("select distinct k, chance from function_similarity").rows() == [(10, 10 / 960)]
    families: dict[tuple[object, ...], list[float]] = {}
    for (layer, family_a, _, family_b, _), overlap in expected.items():
        families.setdefault((layer, family_a, family_b), []).append(overlap)
    query = "select layer, family_a, family_b, overlap, n_pairs, enrichment from family_similarity"
    found = {row[:3]: row[3:] for row in database.sql(query).rows()}
    assert found == {
        key: (pytest.approx(np.mean(values)), len(values), pytest.approx(np.mean(values) * 96))
        for key, values in families.items()
    }


def test_a_filter_on_a_checkpoint_gives_what_it_has_in_the_whole(database: Database) -> None:
    for view in VIEWS_OF_SCORES:
        whole = database.sql(f"select * from (from {view} order by all) where step = 1000").rows()
        part = database.sql(f"from {view} where step = 1000 order by all").rows()
        assert part == whole
        assert part


def test_a_filter_on_a_checkpoint_reaches_the_files(database: Database) -> None:
    for view in VIEWS_OF_SCORES:
        plan = "\n".join(row[1] for row in database.sql(f"explain from {view} where step = 1000").rows())
        scan = " ".join(plan.replace("│", " ").split()).partition("Function: READ_PARQUET")[2]
        assert "Scanning Files: 1/2" in scan, view


def test_coverage_lists_what_is_held_and_what_is_not(store: Store, run: Callable[..., None]) -> None:
    one, two = (("task", "a"),), (("task", "a"), ("task", "b"))
    run(store, "a" * 16, revision="x", step=1, n_layers=1, n_neurons=20, functions=one, prevalence=(0.5,))
    run(store, "b" * 16, revision="y", step=2, n_layers=2, n_neurons=20, functions=two, prevalence=(0.5, 0.1))
    run(store, "c" * 16, model="other", n_layers=1, n_neurons=20, functions=one, prevalence=(0.5,))
    query = (
        "select revision, step, layer, function, n_neurons_held, n_neurons_expected, is_complete, run_id is null "
        "from coverage where model = 'tiny' order by revision, layer, function"
    )
    assert Database(store).sql(query).rows() == [
        ("x", 1, 0, "a", 20, 20, True, False),
        ("x", 1, 0, "b", 0, 20, False, True),
        ("x", 1, 1, "a", 0, 20, False, True),
        ("x", 1, 1, "b", 0, 20, False, True),
        ("y", 2, 0, "a", 20, 20, True, False),
        ("y", 2, 0, "b", 20, 20, True, False),
        ("y", 2, 1, "a", 20, 20, True, False),
        ("y", 2, 1, "b", 20, 20, True, False),
    ]


def test_checkpoints_of_equal_weights_are_each_others_twins(store: Store, run: Callable[..., None]) -> None:
    for run_id, revision, weights in (("a", "x", "same"), ("b", "y", "same"), ("c", "z", "own")):
        run(store, run_id * 16, revision=revision, weights=weights, n_neurons=5)
    query = "select revision, twin_revision, weights_sha256 from checkpoint_identity order by all"
    assert Database(store).sql(query).rows() == [("x", "y", "same"), ("y", "x", "same")]


def test_lift_ranks_as_predictivity_where_classes_are_balanced(empty: Database) -> None:
    query = """
        select
            row_number() over (order by lift(ap, ap_complement, 0.5), i),
            row_number() over (order by predictivity(ap, ap_complement), i),
        from (select range as i, (i * 37 % 101) / 101 as ap, (i * 59 % 103) / 103 as ap_complement from range(100))
    """
    rows = empty.sql(query).rows()
    assert all(by_lift == by_predictivity for by_lift, by_predictivity in rows)
