"""Partitions tested against functions by permutation: the rows stored, against a computation of their own."""

import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy import stats

from neuronlake.analysis.alignment.job import align_partition
from neuronlake.analysis.partitions.chance import strata
from neuronlake.queries.database import Database
from neuronlake.schema.conformance import arrow_schema
from neuronlake.schema.store import Store
from neuronlake.schema.tables import table

N_NEURONS, N_TOP, N_EXPERTS = 400, 4, 8
FUNCTIONS = (("knowledge", "capital"), ("knowledge", "currency"), ("semantic", "bank"), ("task", "rare"), ("task", "x"))
KEYS = {"run_id": "a" * 16, "model": "made", "revision": "main", "step": None}
PARTITION = "b" * 16
HALVES = ("all", "a", "b")
SCORES = {"all": "ap", "a": "ap_half_a", "b": "ap_half_b"}
N_PERMUTATIONS = 20_000

# The best neurons, by function and half, of layer 0; of layer 1 all are drawn. Neuron n is in expert n // 50.
PLANTED = {
    (0, "all"): (0, 1, 2, 3),  # capital: expert 0, on both halves
    (0, "a"): (0, 1, 2, 3),
    (0, "b"): (1, 2, 3, 4),
    (1, "all"): (1, 2, 3, 5),  # currency: expert 0, and three neurons of capital
    (1, "a"): (1, 2, 3, 5),
    (1, "b"): (1, 2, 3, 5),
    (2, "all"): (100, 101, 102, 103),  # bank: expert 2 on half a alone
    (2, "a"): (100, 101, 102, 103),
    (2, "b"): (20, 160, 240, 310),
    (3, "all"): (150, 151, 152, 153),  # rare: expert 3, and half b lacks it
    (3, "a"): (150, 151, 152, 153),
    (4, "all"): (350, 351, 352, 353),  # x: expert 7, of the neurons of highest norm
    (4, "a"): (350, 351, 352, 353),
    (4, "b"): (350, 351, 352, 353),
}


def conforming(name, columns, n_rows):
    """Return rows of a table: a value alone is repeated, what is not given is NULL, or nothing where it may not be."""
    schema = arrow_schema(table(name))
    arrays = []
    for field in schema:
        value = columns.get(field.name)
        if value is None and not field.nullable:
            value = "" if pa.types.is_string(field.type) else 0
        values = value if isinstance(value, list | np.ndarray) else [value] * n_rows
        arrays.append(pa.array(values, from_pandas=True).cast(field.type))
    return pa.table(arrays, schema=schema)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return a store with a run in which some experts hold the best neurons of a function; not to be written."""
    store = Store(tmp_path_factory.mktemp("planted") / "store")
    generator = np.random.default_rng(0)
    n_rows, n_functions = 2 * N_NEURONS * len(FUNCTIONS), len(FUNCTIONS)
    index = np.arange(n_rows)
    layer, neuron, function = index // (N_NEURONS * n_functions), index // n_functions % N_NEURONS, index % n_functions
    scores = {
        "family": [FUNCTIONS[each][0] for each in function],
        "function": [FUNCTIONS[each][1] for each in function],
    }
    for half, column in SCORES.items():
        values = generator.uniform(0.5, 0.8, n_rows).astype(np.float32)
        for each in range(n_functions):
            best = PLANTED.get((each, half), ())
            values[(layer == 0) & (function == each) & np.isin(neuron, best)] = 0.9
        scores[column] = values
        scores[column.replace("ap", "ap_complement")] = np.full(n_rows, 0.1)
    for column in ("ap_half_b", "ap_complement_half_b"):
        scores[column][function == 3] = np.nan
    counts = dict.fromkeys(("n_positive_half_a", "n_negative_half_a", "n_positive_half_b", "n_negative_half_b"), 10)
    functions = {
        "family": [family for family, _ in FUNCTIONS],
        "function": [name for _, name in FUNCTIONS],
        "prevalence": 0.5,
        **counts,
        "n_positive_half_b": [10, 10, 10, 0, 10],
    }
    of_neurons = np.arange(2 * N_NEURONS)
    norm = np.where(of_neurons % N_NEURONS >= 350, 9, 1 + of_neurons % 3)  # those of expert 7 alike, and no others
    neurons = {
        "layer": of_neurons // N_NEURONS,
        "neuron": of_neurons % N_NEURONS,
        "input_norm": norm,
        "firing_rate": generator.uniform(0, 1, 2 * N_NEURONS),
    }
    stack = {"stack": "encoder"}
    rows = {
        "runs": (1, {"measurement": "measured", "corpus": "words"}),
        "layers": (2, {**stack, "layer": [0, 1], "n_neurons": N_NEURONS}),
        "run_functions": (n_functions, functions),
        "neurons": (2 * N_NEURONS, {**stack, **neurons}),
        "neuron_functions": (n_rows, {**stack, "layer": layer, "neuron": neuron, **scores}),
    }
    with store.job(KEYS["run_id"], kind="run") as job:
        for name, (size, columns) in rows.items():
            job.write(name, conforming(name, {**KEYS, **columns}, size), model="made", revision="main")
        job.commit()
    add_partition(store, PARTITION, of_neurons)
    return store


def add_partition(store, partition_id, rows, *, n_experts=N_EXPERTS):
    """Commit a partition of these rows of both layers, neuron n in expert n // 50."""
    keys = {"partition_id": partition_id, "stack": "encoder"}
    layer, neuron = rows // N_NEURONS, rows % N_NEURONS
    tables = {
        "partitions": (1, {**KEYS, **keys, "run_id": None, "method": "native", "n_experts": n_experts}),
        "partition_layers": (2, {**keys, "layer": [0, 1]}),
        "experts": (len(rows), {**keys, "layer": layer, "neuron": neuron, "expert": neuron // 50}),
    }
    with store.job(partition_id, kind="partition") as job:
        for name, (size, columns) in tables.items():
            job.write(name, conforming(name, columns, size), model="made", revision="main")
        job.commit()


@pytest.fixture(scope="module")
def aligned(planted):
    """Return the report and the rows of the planted store's alignment; the store is not to be written."""
    (report,) = align_partition(PARTITION[:4], store=planted.path, n_permutations=N_PERMUTATIONS)
    return report, pl.read_parquet(list(planted.files("alignments")))


def top_lists(store):
    """Return the best neurons of each layer, half and function, read from the files."""
    scores = pl.read_parquet(list(store.files("neuron_functions")))
    lists = {}
    for (layer, family, function), rows in scores.group_by("layer", "family", "function"):
        for half, column in SCORES.items():
            of_half = rows.filter(pl.col(column).is_not_null()).sort([column, "neuron"], descending=[True, False])
            lists[layer, half, family, function] = of_half["neuron"][:N_TOP].to_list()
    return {key: neurons for key, neurons in lists.items() if neurons}


def test_every_expert_is_tested_for_every_list_under_both_nulls_and_on_all_halves(aligned):
    report, rows = aligned
    lists = {(*each, name) for each in FUNCTIONS for name in ("all", "a", "b")} - {("task", "rare", "b")}
    lists |= {(family, "*", half) for family, _ in FUNCTIONS for half in HALVES}
    found = rows.select("family", "function", "half").unique().rows()
    assert set(found) == lists
    assert len(rows) == 2 * 2 * N_EXPERTS * len(lists)
    n_tests = 2 * N_EXPERTS * (len(FUNCTIONS) + 3)
    assert (report.n_layers, report.n_tests, report.null_models) == (2, n_tests, ("free", "matched"))
    assert report.is_new
    assert f"{n_tests} tests in 2 layers, free and matched null, 20,000 permutations" in report.describe()


def test_rows_are_what_the_files_give(planted, aligned):
    expected = {}
    for (layer, half, family, function), neurons in top_lists(planted).items():
        counts = np.bincount(np.asarray(neurons) // 50, minlength=N_EXPERTS)
        for expert, n_top in enumerate(counts.tolist()):
            p_value = stats.hypergeom.sf(n_top - 1, N_NEURONS, 50, N_TOP)
            expected[half, layer, expert, family, function] = (50, n_top, N_TOP / N_EXPERTS, p_value)
            if (half, layer, expert, family, "*") not in expected:
                expected[half, layer, expert, family, "*"] = (50, 0, 0.0, None)
            together = expected[half, layer, expert, family, "*"]
            expected[half, layer, expert, family, "*"] = (50, together[1] + n_top, together[2] + 0.5, None)
    for key, (size, n_top, n_expected, _) in expected.items():
        if key[-1] == "*":
            p_value = stats.binom.sf(n_top - 1, round(n_expected * 8), 1 / N_EXPERTS)
            expected[key] = (size, n_top, n_expected, p_value)
    free = aligned[1].filter(pl.col("null_model") == "free")
    columns = ("half", "layer", "expert", "family", "function", "n_neurons", "n_top", "n_expected", "p_nominal")
    found = {row[:5]: row[5:] for row in free.select(columns).rows()}
    assert found == {key: pytest.approx(values, rel=1e-9) for key, values in expected.items()}


def test_p_values_of_functions_are_those_of_the_hypergeometric_distribution(aligned):
    rows = aligned[1].filter((pl.col("null_model") == "free") & (pl.col("function") != "*"))
    exact = rows["p_nominal"].to_numpy()
    assert rows["p_value"].to_numpy() == pytest.approx(exact, rel=1e-9)


def test_matched_counts_are_expected_as_within_strata_of_norm_and_firing_rate(planted, aligned):
    neurons = pl.read_parquet(list(planted.files("neurons"))).filter(pl.col("layer") == 0).sort("neuron")
    codes = strata(neurons["input_norm"].to_numpy(), neurons["firing_rate"].to_numpy(), n_bins=5)
    experts = np.arange(N_NEURONS) // 50
    rows = aligned[1].filter(null_model="matched", layer=0, half="all", function="bank").sort("expert")
    in_list = np.isin(np.arange(N_NEURONS), PLANTED[2, "all"])
    for expert, n_expected in rows.select("expert", "n_expected").rows():
        shares = [(experts[codes == code] == expert).mean() for code in codes[in_list]]
        assert n_expected == pytest.approx(sum(shares))


def test_a_planted_module_is_significant_under_both_nulls_and_on_both_halves(planted, aligned):
    query = (
        "select null_model, half, is_significant from alignment_tests where layer = 0 and expert = 0 and function = ?"
    )
    for function in ("capital", "currency", "*"):
        found = Database(planted).sql(f"{query} and family = 'knowledge' order by all", [function]).rows()
        assert found == [(null_model, half, True) for null_model in ("free", "matched") for half in sorted(HALVES)]


def test_an_expert_of_strong_neurons_is_functional_only_where_strength_is_not_matched(planted, aligned):
    query = "select null_model, is_significant, n_expected from alignment_tests where function = 'x' and half = 'all' "
    rows = Database(planted).sql(query + "and layer = 0 and expert = 7 order by all").rows()
    assert rows == [("free", True, 0.5), ("matched", False, 4)]


def test_function_rows_agree_with_the_view_of_hypergeometric_tests(planted, aligned):
    query = """
        select tests.n_top, tests.n_neurons, tests.n_expected, tests.enrichment, tests.p_nominal,
            views.n_top, views.n_neurons, views.n_expected, views.enrichment, views.p_value
        from alignment_tests as tests
        full join expert_function_alignment as views
            using (run_id, partition_id, stack, layer, expert, family, function)
        where level = 'function' and half = 'all' and null_model = 'free' or level is null
    """
    rows = Database(planted).sql(query).rows()
    assert len(rows) == 2 * N_EXPERTS * len(FUNCTIONS)
    for row in rows:
        assert row[:5] == pytest.approx(row[5:], rel=1e-9)


def test_family_rows_agree_with_the_view_of_pooled_lists(planted, aligned):
    query = """
        select tests.n_top, tests.n_expected, tests.p_nominal, views.n_top, views.n_expected, views.p_binomial,
            views.n_distinct
        from alignment_tests as tests
        full join expert_family_alignment as views using (run_id, partition_id, stack, layer, expert, family)
        where level = 'family' and half = 'all' and null_model = 'free' or level is null
    """
    rows = Database(planted).sql(query).rows()
    assert len(rows) == 2 * N_EXPERTS * 3
    for row in rows:
        assert row[:3] == pytest.approx(row[3:6], rel=1e-9)
    # Eight entries of five neurons: a neuron counts once for each list it is on.
    assert max((row[0], row[6]) for row in rows) == (8, 5)


def test_q_values_are_of_benjamini_and_hochberg_over_each_null_half_and_level(planted, aligned):
    rows = Database(planted).sql("from alignment_tests").pl()
    groups = list(rows.group_by("null_model", "half", "level"))
    assert len(groups) == 12
    for _, group in groups:
        expected = stats.false_discovery_control(group["p_value"].to_numpy())
        assert group["q_value"].to_numpy() == pytest.approx(expected, rel=1e-12)
        assert group["is_significant"].to_list() == (expected <= 0.05).tolist()


def test_held_out_experts_are_those_significant_on_half_a_with_their_test_on_half_b(planted, aligned):
    tests = Database(planted).sql("from alignment_tests").pl()
    key = ["null_model", "layer", "expert", "family", "function"]
    chosen = tests.filter((pl.col("half") == "a") & pl.col("is_significant")).select(key).sort(key)
    held_out = Database(planted).sql("from held_out_experts").pl().sort(key)
    assert held_out.select(key).rows() == chosen.rows()
    of_half_b = tests.filter(half="b").select(*key, "p_value", "n_top", "enrichment")
    expected = chosen.join(of_half_b, on=key, how="left").sort(key)
    found = held_out.select("p_value", "n_top_half_b", "enrichment_half_b")
    assert found.rows() == expected.select("p_value", "n_top", "enrichment").rows()


def test_what_was_luck_on_half_a_is_not_replicated_and_what_half_b_lacks_is_unknown(planted, aligned):
    query = "select function, expert, is_replicated, p_value is null, q_value is null from held_out_experts "
    found = Database(planted).sql(query + "where null_model = 'free' and level = 'function' order by all").rows()
    assert found == [
        ("bank", 2, False, False, False),
        ("capital", 0, True, False, False),
        ("currency", 0, True, False, False),
        ("rare", 3, None, True, True),
        ("x", 7, True, False, False),
    ]


def test_held_out_q_values_are_over_the_tests_chosen(planted, aligned):
    rows = Database(planted).sql("from held_out_experts where p_value is not null").pl()
    for _, group in rows.group_by("null_model", "level"):
        expected = stats.false_discovery_control(group["p_value"].to_numpy())
        assert group["q_value"].to_numpy() == pytest.approx(expected, rel=1e-12)


def test_a_list_outside_the_experts_is_tested_and_never_significant(planted, tmp_path, alignments):
    store = Store(shutil.copytree(planted.path, tmp_path / "store"))
    rest = np.asarray([row for row in range(2 * N_NEURONS) if row % N_NEURONS >= 200])
    add_partition(store, "c" * 16, rest, n_experts=4)
    (report,) = align_partition("c" * 16, store=store.path, n_permutations=99)
    rows = alignments(store, alignment_id=report.alignment_id, layer=0, half="all", function="capital")
    columns = ("expert", "n_neurons", "n_top", "n_expected", "p_value", "p_nominal")
    assert rows.select(columns).rows() == [(expert, 50, 0, 0, 1, 1) for expert in (4, 5, 6, 7)] * 2
    query = "select count(*) from expert_function_alignment where partition_id = ?"
    assert Database(store).sql(query, ["c" * 16]).rows() == [(4 * 2 * len(FUNCTIONS),)]
    assert report.n_tests == 4 * 2 * (len(FUNCTIONS) + 3)
