"""Experts against functions: every view against an independent computation over the same files, in numpy and scipy."""

from collections.abc import Callable
from itertools import product

import numpy as np
import polars as pl
import pytest
from scipy import stats

from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

RUNS = ("a" * 16, "b" * 16)
PARTITIONS = ("1" * 16, "2" * 16, "3" * 16, "4" * 16)
FUNCTIONS = (
    ("knowledge", "capital"),
    ("knowledge", "currency"),
    ("semantic", "bank"),
    ("semantic", "bat"),
    ("task", "sport"),
)
PREVALENCE = np.asarray([0.5, 0.1, 0.5, 0.3, 0.02])
N_NEURONS, N_TOP = 400, 4
Key = tuple[object, ...]


@pytest.fixture(scope="module")
def aligned(
    tmp_path_factory: pytest.TempPathFactory, run: Callable[..., None], partition: Callable[..., None]
) -> Store:
    """Return a store of two checkpoints, and partitions of equal and unequal sizes; do not write to it."""
    store = Store(tmp_path_factory.mktemp("aligned") / "store")
    generator = np.random.default_rng(0)
    for step, run_id in enumerate(RUNS):
        rise = np.abs(generator.normal(0, 0.1, (2, N_NEURONS, 5)))
        rise[..., 1] = rise[..., 0] + generator.normal(0, 0.01, (2, N_NEURONS))  # the lists of a family overlap
        scores = {"ap": PREVALENCE + rise * (1 - PREVALENCE) / 2, "ap_complement": 1 - PREVALENCE + rise * 0}
        given = {name: each.astype(np.float32).ravel() for name, each in scores.items()}
        run(store, run_id, revision=f"step{step}", step=step, n_neurons=N_NEURONS, scores=given)
    # Experts of different sizes, the first with the best for capital at the second checkpoint; some neurons in none.
    order = np.argsort(np.argsort(-rise[..., 0], axis=1), axis=1)
    experts = np.asarray([0] * 6 + [1] * 44 + [2] * 150 + [3] * 170 + [-1] * 30)[order]
    experts[0][np.argsort(-rise[0, :, 2])[:2]] = -1  # outside, though among the best for bank
    partition(store, PARTITIONS[0], experts, revision="step1", method="function", half="a")
    for partition_id, n_experts, revision in zip(PARTITIONS[1:], (4, 4, 8), ("step1", "step1", "step0"), strict=True):
        dealt = experts.copy()
        for layer in dealt:
            n_covered = np.count_nonzero(layer >= 0)
            layer[layer >= 0] = generator.permutation(n_covered) * n_experts // n_covered
        partition(store, partition_id, dealt, revision=revision, method="random")
    partition(store, "5" * 16, np.zeros((2, N_NEURONS), dtype=int), model="other")
    return store


@pytest.fixture(scope="module")
def database(aligned: Store) -> Database:
    """Return a database over it."""
    return Database(aligned)


def read_rankings(store: Store, run_id: str) -> np.ndarray:
    """Read the lifts from the files. [layers, neurons, functions]."""
    rows = pl.read_parquet(list(store.files("neuron_functions"))).filter(pl.col("run_id") == run_id)
    rows = rows.sort("layer", "neuron", "family", "function")
    ap, complement = (rows[name].to_numpy().astype(float).reshape(2, -1, 5) for name in ("ap", "ap_complement"))
    return np.maximum(ap - PREVALENCE, complement - (1 - PREVALENCE)) / np.maximum(PREVALENCE, 1 - PREVALENCE)


def read_experts(store: Store, partition_id: str) -> np.ndarray:
    """Read a partition from the files, -1 where a neuron has no expert. [layers, neurons]."""
    rows = pl.read_parquet(list(store.files("experts"))).filter(pl.col("partition_id") == partition_id)
    experts = np.full((2, N_NEURONS), -1)
    experts[rows["layer"].to_numpy(), rows["neuron"].to_numpy()] = rows["expert"].to_numpy()
    return experts


def top_neurons(store: Store, run_id: str) -> np.ndarray:
    """Return the best neurons by lift, those of lower index first where tied. [layers, top, functions]."""
    return np.argsort(-read_rankings(store, run_id), axis=1, kind="stable")[:, :N_TOP]


def adjusted(p_values: dict[Key, float]) -> dict[Key, float]:
    return dict(zip(p_values, stats.false_discovery_control(list(p_values.values())), strict=True))


def function_counts(store: Store, run_id: str, partition_id: str) -> dict[Key, tuple[int, int, int, int]]:
    """Return, by layer, expert and function, found, marked, drawn and all."""
    tops, experts = top_neurons(store, run_id), read_experts(store, partition_id)
    found: dict[Key, tuple[int, int, int, int]] = {}
    for layer, (index, function) in product((0, 1), enumerate(FUNCTIONS)):
        of_tops = experts[layer][tops[layer, :, index]]
        for expert in range(experts.max() + 1):
            n_neurons = np.count_nonzero(experts[layer] == expert)
            counts = (np.count_nonzero(of_tops == expert), n_neurons, np.count_nonzero(of_tops >= 0))
            found[layer, expert, *function] = (*counts, np.count_nonzero(experts[layer] >= 0))
    return found


@pytest.mark.parametrize("run_id", RUNS)
@pytest.mark.parametrize("partition_id", PARTITIONS)
def test_functions_align_with_experts_as_in_scipy(
    aligned: Store, database: Database, run_id: str, partition_id: str
) -> None:
    counts = function_counts(aligned, run_id, partition_id)
    p_values = {key: stats.hypergeom.sf(n - 1, all_, marked, drawn) for key, (n, marked, drawn, all_) in counts.items()}
    q_values = adjusted(p_values)
    query = (
        "select layer, expert, family, function, n_top, n_neurons, n_expected, enrichment, p_value, q_value, "
        "is_functional, is_significant from expert_function_alignment where run_id = ? and partition_id = ?"
    )
    rows = database.sql(query, [run_id, partition_id]).rows()
    assert {row[:4]: row[4:] for row in rows} == {
        key: (
            n_top,
            marked,
            pytest.approx(marked * drawn / all_),
            pytest.approx(n_top / (marked * drawn / all_)),
            pytest.approx(p_values[key], rel=1e-9),
            pytest.approx(q_values[key], rel=1e-9),
            p_values[key] <= 0.001,
            q_values[key] <= 0.05,
        )
        for key, (n_top, marked, drawn, all_) in counts.items()
    }


@pytest.mark.parametrize("run_id", RUNS)
@pytest.mark.parametrize("partition_id", PARTITIONS)
def test_families_align_by_distinct_neurons_and_the_binomial_pools_entries(
    aligned: Store, database: Database, run_id: str, partition_id: str
) -> None:
    tops, experts = top_neurons(aligned, run_id), read_experts(aligned, partition_id)
    expected: dict[Key, tuple[float, ...]] = {}
    for layer, family in product((0, 1), ("knowledge", "semantic", "task")):
        entries = tops[layer][:, [index for index, each in enumerate(FUNCTIONS) if each[0] == family]].ravel()
        entries = entries[experts[layer][entries] >= 0]
        distinct = np.unique(entries)
        n_covered = np.count_nonzero(experts[layer] >= 0)
        for expert in range(experts.max() + 1):
            n_neurons = np.count_nonzero(experts[layer] == expert)
            n_top = np.count_nonzero(experts[layer][entries] == expert)
            n_distinct = np.count_nonzero(experts[layer][distinct] == expert)
            share = n_neurons / n_covered
            p_value = stats.hypergeom.sf(n_distinct - 1, n_covered, n_neurons, len(distinct))
            p_binomial = stats.binom.sf(n_top - 1, len(entries), share)
            expected[layer, expert, family] = (n_neurons, n_top, n_distinct, len(entries) * share, p_value, p_binomial)
    q_values = adjusted({key: values[4] for key, values in expected.items()})
    query = (
        "select layer, expert, family, n_neurons, n_top, n_distinct, n_expected, p_value, p_binomial, q_value, "
        "enrichment, is_functional, is_functional_binomial, is_significant "
        "from expert_family_alignment where run_id = ? and partition_id = ?"
    )
    rows = database.sql(query, [run_id, partition_id]).rows()
    assert {row[:3]: row[3:] for row in rows} == {
        key: (
            *values[:3],
            *(pytest.approx(value, rel=1e-9) for value in (*values[3:], q_values[key], values[1] / values[3])),
            values[4] <= 0.001,
            values[5] <= 0.001,
            q_values[key] <= 0.05,
        )
        for key, values in expected.items()
    }


def test_overlapping_lists_make_the_binomial_smaller_than_the_test_of_distinct_neurons(database: Database) -> None:
    query = (
        "select n_top, n_distinct, p_binomial < p_value from expert_family_alignment "
        "where family = 'knowledge' and layer = 0 and expert = 0 and run_id = ? and partition_id = ?"
    )
    ((n_top, n_distinct, is_smaller),) = database.sql(query, [RUNS[1], PARTITIONS[0]]).rows()
    assert n_top > n_distinct > 2
    assert is_smaller


def test_alignment_carries_run_and_partition_of_every_pair_of_the_model(database: Database) -> None:
    columns = "run_id, model, revision, step, partition_id, partition_revision, method, partition_half, n_experts"
    of_runs = ((RUNS[0], "tiny", "step0", 0), (RUNS[1], "tiny", "step1", 1))
    of_partitions = (
        (PARTITIONS[0], "step1", "function", "a", 4),
        (PARTITIONS[1], "step1", "random", None, 4),
        (PARTITIONS[2], "step1", "random", None, 4),
        (PARTITIONS[3], "step0", "random", None, 8),
    )
    for view in ("expert_function_alignment", "expert_family_alignment", "expert_effect_sizes", "modularization"):
        found = database.sql(f"select distinct {columns} from {view} order by run_id, partition_id").rows()
        assert found == [(*run, *partition) for run, partition in product(of_runs, of_partitions)], view


def test_functional_experts_are_those_of_both_levels(database: Database) -> None:
    columns = "n_neurons, n_top, n_expected, enrichment, p_value, q_value, is_significant"
    keys = "run_id, partition_id, partition_revision, method, partition_half, stack, layer, expert"
    expected = database.sql(f"""
        select {keys}, 'function', family, function, {columns} from expert_function_alignment where p_value <= 0.001
        union all
        select {keys}, 'family', family, '*', {columns} from expert_family_alignment where p_value <= 0.001
        order by all
    """).rows()
    found = database.sql(
        f"select {keys}, level, family, function, {columns} from functional_experts order by all"
    ).rows()
    assert found == expected
    assert {row[8] for row in found} == {"function", "family"}
    assert {row[4] for row in found if row[3] == "function"} == {"a"}


def test_the_bar_is_a_thousandth_and_lists_that_overlap_do_not_lower_it(
    store: Store, run: Callable[..., None], partition: Callable[..., None]
) -> None:
    # Two top neurons of 200 in an expert of 6 have p = .00075, in one of 7 p = .00106. The functions of the second
    # family have the same two.
    scores = np.full((200, 3), 0.5, dtype=np.float32)
    scores[:2, 0] = 0.9
    scores[6:8, 1:] = 0.9
    functions = (("one", "a"), ("two", "b"), ("two", "c"))
    given = {"ap": scores.ravel(), "ap_complement": np.zeros(600, dtype=np.float32)}
    run(store, RUNS[0], n_layers=1, functions=functions, prevalence=(0.5,) * 3, scores=given)
    partition(store, PARTITIONS[0], np.asarray([[0] * 6 + [1] * 7 + [2] * 187]))
    database = Database(store)
    query = "select level, family, function, expert, n_top from functional_experts order by all"
    assert database.sql(query).rows() == [("family", "one", "*", 0, 2), ("function", "one", "a", 0, 2)]
    query = "select family, expert, n_top, n_distinct from expert_family_alignment where is_functional_binomial"
    assert database.sql(f"{query} order by all").rows() == [("one", 0, 2, 2), ("two", 1, 4, 2)]


@pytest.mark.parametrize("partition_id", PARTITIONS)
def test_effect_sizes_are_those_of_analysis_of_variance(aligned: Store, database: Database, partition_id: str) -> None:
    rankings, experts = read_rankings(aligned, RUNS[0]), read_experts(aligned, partition_id)
    expected = {}
    for layer, (index, function) in product((0, 1), enumerate(FUNCTIONS)):
        groups = [rankings[layer, experts[layer] == expert, index] for expert in range(experts.max() + 1)]
        pooled = np.concatenate(groups)
        between = sum(len(group) * (group.mean() - pooled.mean()) ** 2 for group in groups)
        expected[layer, *function] = (
            len(pooled),
            pytest.approx(between / np.sum((pooled - pooled.mean()) ** 2), rel=1e-9),
            pytest.approx((len(groups) - 1) / (len(pooled) - 1)),
            int(np.argmax([group.mean() for group in groups])),
            pytest.approx(max(group.mean() for group in groups)),
            pytest.approx(pooled.mean()),
        )
    query = (
        "select layer, family, function, n_neurons, eta_squared, chance_eta_squared, best_expert, best_mean, mean "
        "from expert_effect_sizes where run_id = ? and partition_id = ?"
    )
    rows = database.sql(query, [RUNS[0], partition_id]).rows()
    assert {row[:3]: row[3:] for row in rows} == expected


def test_equal_scores_have_no_effect_size(
    store: Store, run: Callable[..., None], partition: Callable[..., None]
) -> None:
    same = np.full(5 * 20, 0.5, dtype=np.float32)
    run(store, RUNS[0], n_layers=1, n_neurons=20, scores={"ap": same, "ap_complement": same})
    partition(store, PARTITIONS[0], np.arange(20)[None] // 10)
    query = "select distinct eta_squared, chance_eta_squared, best_expert from expert_effect_sizes"
    assert Database(store).sql(query).rows() == [(None, 1 / 19, 0)]


def modularity(store: Store, run_id: str, partition_id: str) -> dict[Key, list[tuple[float, float, int]]]:
    """Return, by layer and family, proportion, degree and functional experts of each function."""
    counts = function_counts(store, run_id, partition_id)
    found: dict[Key, list[tuple[float, float, int]]] = {}
    for layer, (family, function) in product((0, 1), FUNCTIONS):
        cells = [values for key, values in counts.items() if (key[0], *key[2:]) == (layer, family, function)]
        functional = [
            n_top / (marked * drawn / all_)
            for n_top, marked, drawn, all_ in cells
            if stats.hypergeom.sf(n_top - 1, all_, marked, drawn) <= 0.001
        ]
        degree = float(np.mean(functional)) if functional else 0.0
        found.setdefault((layer, family), []).append((len(functional) / len(cells), degree, len(functional)))
    return found


def test_modularization_averages_functions_beside_random_partitions(aligned: Store, database: Database) -> None:
    query = (
        "select layer, family, n_functions, proportion, degree, n_functional, random_proportion, random_degree, "
        "n_random from modularization where run_id = ? and partition_id = ?"
    )
    of_random = [modularity(aligned, RUNS[1], partition_id) for partition_id in PARTITIONS[1:3]]
    of_partition = modularity(aligned, RUNS[1], PARTITIONS[0])
    rows = database.sql(query, [RUNS[1], PARTITIONS[0]]).rows()
    assert {row[:2]: row[2:] for row in rows} == {
        key: (
            len(functions),
            pytest.approx(np.mean([each[0] for each in functions])),
            pytest.approx(np.mean([each[1] for each in functions])),
            sum(each[2] for each in functions),
            pytest.approx(np.mean([each[0] for random in of_random for each in random[key]])),
            pytest.approx(np.mean([each[1] for random in of_random for each in random[key]])),
            2,
        )
        for key, functions in of_partition.items()
    }
    assert of_partition[0, "knowledge"][0][2] > 0


def test_modularization_takes_effect_sizes_and_significance_from_the_other_views(database: Database) -> None:
    query = (
        "select run_id, partition_id, layer, family, eta_squared, chance_eta_squared from modularization order by all"
    )
    mean = "select run_id, partition_id, layer, family, avg(eta_squared), avg(chance_eta_squared) from "
    expected = database.sql(f"{mean} expert_effect_sizes group by all order by all").rows()
    assert database.sql(query).rows() == [(*row[:4], *(pytest.approx(each) for each in row[4:])) for row in expected]
    of_random = {(row[0], *row[2:4]): [] for row in expected}
    for row in expected:
        if row[1] in PARTITIONS[1:3]:
            of_random[row[0], *row[2:4]].append(row[4])
    query = "select run_id, layer, family, random_eta_squared from modularization where partition_id = ?"
    found = {row[:3]: row[3] for row in database.sql(query, [PARTITIONS[0]]).rows()}
    assert found == {key: pytest.approx(np.mean(values)) for key, values in of_random.items()}
    query = "select sum(n_significant) from modularization union all select count(*) from {} where is_significant"
    (found_sum,), (expected_sum,) = database.sql(query.format("expert_function_alignment")).rows()
    assert found_sum == expected_sum > 0


def test_a_layer_that_lacks_neurons_of_the_partition_is_not_tested(
    store: Store, run: Callable[..., None], partition: Callable[..., None]
) -> None:
    # The model has grown by one neuron a layer: neuron 200, which the partition leaves out in layer 0.
    run(store, RUNS[0], revision="small", n_neurons=200)
    run(store, RUNS[1], revision="large", n_neurons=201)
    experts = np.tile(np.arange(201) // 101, (2, 1))
    experts[0, 200] = -1
    partition(store, PARTITIONS[0], experts, revision="large")
    database = Database(store)
    for view in ("expert_function_alignment", "expert_family_alignment", "expert_effect_sizes", "modularization"):
        rows = database.sql(f"select distinct revision, layer from {view} order by all").rows()
        assert rows == [("large", 0), ("large", 1), ("small", 0)], view
        query = f"select count(*) from {view} where run_id = '{RUNS[0]}' and partition_id = '{PARTITIONS[0]}'"
        assert database.sql(f"{query} and layer = 1").rows() == [(0,)], view
    for view in ("expert_function_alignment", "expert_family_alignment"):
        rows = database.sql(f"select p_value, q_value from {view} where revision = 'small'").rows()
        q_values = stats.false_discovery_control([row[0] for row in rows])
        assert [row[1] for row in rows] == pytest.approx(q_values.tolist()), view


def test_a_function_whose_top_neurons_are_all_outside_is_expected_nowhere(
    store: Store, run: Callable[..., None], partition: Callable[..., None]
) -> None:
    scores = np.full((1, 20, 5), 0.5, dtype=np.float32)
    scores[0, 7] = 0.9
    given = {"ap": scores.ravel(), "ap_complement": np.zeros(100, dtype=np.float32)}
    run(store, RUNS[0], n_layers=1, n_neurons=20, scores=given)
    experts = np.arange(20)[None] // 10
    experts[0, 7] = -1
    partition(store, PARTITIONS[0], experts)
    database = Database(store)
    for view in ("expert_function_alignment", "expert_family_alignment"):
        query = f"select distinct n_top, n_expected, enrichment, p_value, is_functional from {view}"
        assert database.sql(query).rows() == [(0, 0, None, 1, False)], view
    assert database.sql("select distinct proportion, degree from modularization").rows() == [(0, 0)]


VIEWS = ("expert_function_alignment", "expert_family_alignment", "functional_experts", "expert_effect_sizes")


@pytest.mark.parametrize("view", [*VIEWS, "modularization"])
def test_a_filter_on_a_run_reaches_the_files(database: Database, filters: Callable[..., list[str]], view: str) -> None:
    for condition in (f"run_id = '{RUNS[1]}'", "step = 1"):
        found = filters(database, f"from {view} where {condition}", "neuron", "function")
        assert found
        assert all(condition in each for each in found)
    condition = f"run_id = '{RUNS[1]}'"
    assert set(filters(database, f"from {view} where {condition}", "n_neurons")) == {condition}


@pytest.mark.parametrize("view", VIEWS)
def test_a_filter_on_a_partition_reaches_the_files(
    database: Database, filters: Callable[..., list[str]], view: str
) -> None:
    condition = f"partition_id = '{PARTITIONS[0]}'"
    assert set(filters(database, f"from {view} where {condition}", "partition_id", "neuron")) == {condition}


@pytest.mark.parametrize("view", [*VIEWS, "modularization"])
def test_a_filter_gives_what_the_view_has_in_the_whole(database: Database, view: str) -> None:
    condition = f"run_id = '{RUNS[1]}' and partition_id = '{PARTITIONS[0]}'"
    whole = database.sql(f"select * from (from {view} order by all) where {condition}").rows()
    part = database.sql(f"from {view} where {condition} order by all").rows()
    assert part == whole
    assert part
