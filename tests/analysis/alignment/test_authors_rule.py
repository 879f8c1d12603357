"""A measured run by the authors' own rule (Zhang et al. 2023), computed from the stored scores with numpy and scipy.

The rule: a neuron's predictivity is the better of its two average precisions; the top of a function are the 1% of a
layer's neurons with the highest; an expert is functional where it holds so many of them that the hypergeometric
distribution gives as many or more at .001 at most. Experts are of equal sizes.
"""

import itertools

import numpy as np
import polars as pl
import pytest
import transformers
from scipy import stats

from neuronlake.analysis.alignment.job import align_partition
from neuronlake.analysis.partitions.job import partition_model
from neuronlake.analysis.partitions.settings import PartitionSettings
from neuronlake.errors import UnknownNameError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance, Source
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

N_NEURONS, N_EXPERTS, N_TOP = 1200, 12, 12
FUNCTIONS = [("balanced", "0"), ("balanced", "1"), ("rare", "0"), ("rare", "1")]
WORDS = ["the", "a", "cat", "dog", "bird", "fish", "sat", "ran", "flew", "swam", "red", "blue", "old", "new"]


@pytest.fixture(scope="module")
def wide(tiny_model, tmp_path_factory) -> Store:
    """Return a store with a measured BERT of 1,200 neurons, on functions of prevalence .5 and .02, and partitions."""
    folder = tmp_path_factory.mktemp("wide")
    config = transformers.BertConfig.from_pretrained(
        tiny_model("bert"), intermediate_size=N_NEURONS, num_hidden_layers=1
    )
    transformers.set_seed(3)
    transformers.AutoModel.from_config(config).save_pretrained(folder / "wide")
    transformers.AutoTokenizer.from_pretrained(tiny_model("bert")).save_pretrained(folder / "wide")
    generator = np.random.default_rng(5)
    words = generator.permutation(list(itertools.permutations(WORDS, 4)))[:400].tolist()
    labels = {}
    for number in (0, 1):
        likely = np.asarray([first in WORDS[number::2] for first, *_ in words]) + 2 * generator.random(400)
        labels[f"balanced/{number}"] = likely > np.median(likely)
        labels[f"rare/{number}"] = np.arange(400) % 50 == number
    texts = [" ".join([*each, *["king", "queen"][number % 50 : number % 50 + 1]]) for number, each in enumerate(words)]
    instances = [
        Instance(text, {name: bool(values[number]) for name, values in labels.items()})
        for number, text in enumerate(texts)
    ]
    store = Store(folder / "store")
    build_corpus(Source(instances, "a test", None, "test: literals", "rest"), "test", store=store.path)
    ingest_model(str(folder / "wide"), corpus="test", store=store.path)
    partition_model("wide", store=store.path, settings=PartitionSettings("random", n_experts=N_EXPERTS))
    for family in ("balanced", "rare"):
        # Experts of like predictivity for one function: its top neurons come together.
        query = (
            f"select stack, layer, neuron, predictivity from neuron_scores where family = '{family}' and function = '0'"
        )
        settings = PartitionSettings("kmeans", n_experts=N_EXPERTS, query=query, normalize=False, n_starts=1)
        partition_model("wide", store=store.path, settings=settings)
    return store


def authors_rule(store: Store) -> dict[tuple[str, str, str, int], tuple[int, float]]:
    """Return the top neurons in an expert, and the p of as many, by partition, family, function and expert."""
    scores = pl.read_parquet(list(store.files("neuron_functions"))).sort("neuron")
    experts = pl.read_parquet(list(store.files("experts"))).sort("neuron")
    found = {}
    for family, function in FUNCTIONS:
        rows = scores.filter(family=family, function=function)
        predictivity = np.maximum(rows["ap"].to_numpy(), rows["ap_complement"].to_numpy())
        top = np.argsort(-predictivity, kind="stable")[: N_NEURONS // 100]
        for (partition,), members in experts.group_by("partition_id"):
            counts = np.bincount(members["expert"].to_numpy()[top], minlength=N_EXPERTS)
            p_values = stats.hypergeom.sf(counts - 1, N_NEURONS, N_TOP, N_NEURONS // N_EXPERTS)
            for expert, (n_top, p) in enumerate(zip(counts.tolist(), p_values.tolist(), strict=True)):
                found[partition, family, function, expert] = (n_top, pytest.approx(p, rel=1e-9, abs=0))
    return found


def test_the_views_by_predictivity_find_what_the_authors_rule_finds(wide):
    rule = authors_rule(wide)
    query = "select partition_id, family, function, expert, n_top, p_value from {}_by('predictivity')"
    rows = Database(wide).sql(query.format("expert_function_alignment")).rows()
    assert {row[:4]: row[4:] for row in rows} == rule
    functional = {key: found for key, found in rule.items() if found[1].expected <= 0.001}
    rows = Database(wide).sql(query.format("functional_experts") + " where level = 'function'").rows()
    assert {row[:4]: row[4:] for row in rows} == functional
    assert {family for _, family, _, _ in functional} == {"balanced", "rare"}


def test_so_does_align_which_keeps_what_it_found_by_lift(wide, alignments):
    rule = authors_rule(wide)
    partition = next(iter(rule))[0]
    by_lift, report, again = (
        align_partition(partition, store=wide.path, n_permutations=9, ranking=ranking)[0]
        for ranking in ("lift", "predictivity", "lift")
    )
    assert (by_lift.is_new, report.is_new, again.is_new) == (True, True, False)
    assert ", by predictivity, " in report.describe()
    assert set(alignments(wide, alignment_id=by_lift.alignment_id)["ranking"]) == {"lift"}
    query = """
        select partition_id, family, function, expert, n_top, p_value from alignment_tests
        where ranking = 'predictivity' and null_model = 'free' and half = 'all' and level = 'function'
    """
    rows = Database(wide).sql(query).rows()
    assert {row[:4]: row[4:] for row in rows} == {key: found for key, found in rule.items() if key[0] == partition}


def test_proportion_and_degree_by_predictivity_are_the_authors(wide):
    rule = authors_rule(wide)
    query = "select partition_id, family, proportion, degree from modularization_by('predictivity')"
    rows = Database(wide).sql(query).rows()
    assert len(rows) == 6
    for partition, family, proportion, degree in rows:
        tests = [[rule[partition, family, number, expert] for expert in range(N_EXPERTS)] for number in "01"]
        counts = [[n_top for n_top, p in each if p.expected <= 0.001] for each in tests]
        assert proportion == pytest.approx(np.mean([len(each) / N_EXPERTS for each in counts]))
        degrees = [np.mean(each) / (N_TOP / N_EXPERTS) if each else 0 for each in counts]
        assert degree == pytest.approx(np.mean(degrees))


def test_both_rankings_share_the_top_neurons_of_balanced_functions_and_few_of_rare_ones(wide):
    query = """
        select family, count(*) from top_neurons
        semi join top_neurons_by('predictivity') as other using (run_id, layer, family, function, neuron)
        group by family
    """
    shared = dict(Database(wide).sql(query).rows())
    assert shared["balanced"] == 2 * N_TOP
    assert shared.get("rare", 0) <= N_TOP


def test_a_ranking_that_there_is_not_is_refused(wide):
    partition = next(iter(authors_rule(wide)))[0]
    with pytest.raises(UnknownNameError, match=r"no ranking 'ap'.*lift, predictivity"):
        align_partition(partition, store=wide.path, ranking="ap")
