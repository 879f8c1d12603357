"""A study that cannot be made is refused in one line before anything is written; what is excluded is reported."""

import numpy as np
import pytest
import torch
import transformers

from neuronlake.analysis.partitions.job import partition_model
from neuronlake.analysis.partitions.settings import PartitionSettings
from neuronlake.analysis.perturbation import passes, sources
from neuronlake.analysis.perturbation.settings import PerturbationSettings
from neuronlake.analysis.perturbation.study import study_perturbation, wanted_functions
from neuronlake.errors import AnalysisError, QueryError, UnknownNameError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance, Source
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Settings
from neuronlake.progress import SilentProgress
from neuronlake.queries.database import Database

QUICK = {"doses": (0.1,), "n_bootstrap": 50, "n_permutations": 49, "n_seeds": 2}


class Notes(SilentProgress):
    """Keeps what a job tells."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def store(studied):
    return studied("bert")


@pytest.fixture
def run_id(store):
    with Database(store) as database:
        return database.sql("select run_id from runs").pl().item()


@pytest.fixture
def perturbed(store, headed):
    """Return a function that makes a study of tiny BERT's store."""

    def make(*, model=None, **options):
        names = ("run", "corpus", "revision", "random_init", "progress")
        arguments = {"name": "tiny-bert"} | {name: options.pop(name) for name in names if name in options}
        chosen = {} if {"query", "partition"} & options.keys() else {"is_top": True}
        settings = PerturbationSettings(**(QUICK | chosen | options))
        return study_perturbation(str(model or headed("bert")), store=store.path, settings=settings, **arguments)

    return make


def partition(store, method="random", **options):
    return partition_model("tiny-bert", store=store.path, settings=PartitionSettings(method, n_experts=4, **options))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"families": ("tasks",)}, UnknownNameError,
            "no family 'tasks' in the functions that run {run_id} measured; did you mean 'task'?",
        ),
        (
            {"functions": ("task/birds",)}, UnknownNameError,
            "no function 'task/birds' in the functions that run {run_id} measured; did you mean 'task/water'?",
        ),
        (
            {"families": ("word",), "functions": ("task/water",)}, UnknownNameError,
            "no function 'task/water' in the functions that run {run_id} measured; available: word/animal",
        ),
        ({"partition": "x"}, UnknownNameError, "no partition 'x' in "),
        ({"run": "x"}, UnknownNameError, "no run 'x' in "),
        ({"corpus": "sentence"}, UnknownNameError, "no corpus 'sentence' in "),
        ({"revision": "other"}, UnknownNameError, "no revision 'other' in tiny-bert"),
        ({"layers": (7,)}, AnalysisError, "run {run_id} has no layer [7]; it measured [0, 1]"),
        (
            {"n_texts": 12}, AnalysisError,
            "no function of corpus sentences has 10 positives and negatives in each half of 12 texts",
        ),
        (
            {"doses": (1.0,), "query": "select stack, layer, neuron from neurons where layer = 0"}, AnalysisError,
            "no source has neurons enough for a dose: the most is 64 of 128 neurons",
        ),
        ({"query": "select stack from neurons"}, AnalysisError, "the query must have the columns stack, layer, "),
        ({"query": "select wrong from neurons"}, QueryError, "Binder Error"),
        (
            {"query": "select stack, layer, neuron from neurons", "kind": "route-away"}, AnalysisError,
            "run {run_id} has no neurons of native experts in these layers",
        ),
    ],
    ids=[
        "family", "function", "function of another family", "partition", "run", "corpus", "revision", "layer", "texts",
        "dose", "column", "sql", "experts",
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused(store, run_id, perturbed, options, error, message):
    before = sorted(store.path.rglob("*"))
    with pytest.raises(error) as caught:
        perturbed(**options)
    assert str(caught.value).startswith(message.format(run_id=run_id))
    assert "\n" not in str(caught.value)
    assert sorted(store.path.rglob("*")) == before


def test_other_weights_than_those_measured_are_refused(store, run_id, perturbed, headed, tmp_path):
    model = transformers.AutoModelForMaskedLM.from_pretrained(headed("bert"))
    with torch.no_grad():
        model.bert.encoder.layer[1].intermediate.dense.weight[0, 0] += 1
    model.save_pretrained(tmp_path / "changed")
    transformers.AutoTokenizer.from_pretrained(headed("bert")).save_pretrained(tmp_path / "changed")
    with pytest.raises(AnalysisError, match=rf"^the weights of .*changed are not those that run {run_id} measured: "):
        perturbed(model=tmp_path / "changed")
    assert len(store.commits()) == 2


@pytest.mark.parametrize(
    ("settings", "reason", "listed"),
    [
        (
            {"site": "preactivation"},
            "is of the site preactivation; a study needs a run",
            "preactivation, max, max_tokens",
        ),
        (
            {"halves": "word"},
            "has halves by word: neurons chosen on half a have seen",
            "max, halves by word, max_tokens",
        ),
    ],
)
def test_a_run_that_cannot_be_read_out_is_refused(store, perturbed, headed, settings, reason, listed):
    report = ingest_model(
        str(headed("bert")), corpus="sentences", store=store.path, name="tiny-bert", settings=Settings(**settings)
    )
    with pytest.raises(AnalysisError, match=f"^run {report.run_id} {reason}"):
        perturbed(run=report.run_id)
    with pytest.raises(UnknownNameError, match=rf"no single run 'tiny-bert main'.*{listed} \d+\)"):
        perturbed()


def test_a_partition_without_functional_experts_is_refused(store, perturbed):
    # Of 64 neurons one is a top neuron, in an expert of 16: p = .25.
    made = partition(store)
    with pytest.raises(AnalysisError, match=f"^partition {made.partition_id} has no expert that is functional for a"):
        perturbed(partition=made.partition_id)


def test_routing_away_from_experts_that_are_not_native_is_refused(store, perturbed):
    made = partition(store)
    with pytest.raises(
        AnalysisError, match=r"^the kind route-away takes whole native experts, and partition .* is by ran"
    ):
        perturbed(partition=made.partition_id, kind="route-away")


def test_a_partition_of_another_model_is_refused(store, perturbed, tiny_model):
    ingest_model(str(tiny_model("gpt2")), corpus="sentences", store=store.path)
    made = partition_model("tiny-gpt2", store=store.path, settings=PartitionSettings("random", n_experts=4))
    with pytest.raises(AnalysisError, match=f"^partition {made.partition_id} is of tiny-gpt2, run "):
        perturbed(partition=made.partition_id)


@pytest.mark.parametrize(("half", "is_reported"), [("a", False), ("b", True), ("all", True)])
def test_experts_made_of_scores_on_what_is_read_out_are_reported(store, perturbed, monkeypatch, half, is_reported):
    monkeypatch.setattr(sources, "FUNCTIONAL_P", 0.5)
    made = partition(store, "function", half=half)
    progress = Notes()
    perturbed(partition=made.partition_id, progress=progress)
    note = f"partition {made.partition_id} was made of scores on the half that is read out: "
    assert any(each.startswith(note) for each in progress.notes) == is_reported


def test_functions_without_functional_experts_are_no_sources_which_is_reported(store, perturbed, monkeypatch):
    # Four experts of a layer have 13 neurons and one has 12, which alone is functional if a top neuron is in it.
    made = partition_model("tiny-bert", store=store.path, settings=PartitionSettings("random", n_experts=5, seed=1))
    monkeypatch.setattr(sources, "FUNCTIONAL_P", 12 / 64)
    functional = f"""
        with small as (
            select stack, layer, unnest(list(neuron)) as neuron
            from experts
            where partition_id = '{made.partition_id}'
            group by stack, layer, expert
            having count(*) = 12
        )

        select distinct family, function
        from held_out_top_neurons
        inner join small using (stack, layer, neuron)
        where half = 'a'
        order by all
    """
    with Database(store) as database:
        expected = database.sql(functional).rows()
        assert len(expected) in (1, 2)
        progress = Notes()
        report = perturbed(partition=made.partition_id, progress=progress)
    assert (report.n_sources, report.n_targets) == (len(expected), 3)
    assert f"{3 - len(expected)} of 3 functions have no functional expert, and are no sources" in progress.notes
    with Database(store) as database:
        found = database.sql(
            "select distinct source_family, source_function, n_functional = least(n_neurons, 12) from perturbations "
            "where selection = 'functional' order by all"
        )
        assert found.rows() == [(*each, True) for each in expected]


def test_functions_at_chance_are_left_out_of_selectivity_by_name(perturbed, store, monkeypatch):
    monkeypatch.setattr(passes, "readable", lambda resampled, chance: chance < np.array([0.6, 0.4, 0.6]))
    progress = Notes()
    perturbed(progress=progress)
    assert "read no better than chance without an ablation, and left out of selectivity: task/water" in progress.notes
    with Database(store) as database:
        query = "select distinct target_function, is_readable, selectivity is null from perturbation_effects "
        found = database.sql(f"{query} where is_on_target and control = 'none' and selection = 'top' order by all")
        assert found.rows() == [("animal", True, False), ("water", False, True)]


def test_sources_may_be_some_functions_while_all_are_read_out(perturbed):
    assert (lambda report: (report.n_sources, report.n_targets))(perturbed(families=("task",))) == (2, 3)
    assert (lambda report: (report.n_sources, report.n_targets))(perturbed(functions=("word/animal",))) == (1, 3)


def test_functions_are_in_the_order_of_the_run_once_whatever_is_asked():
    functions = [("task", "b"), ("task", "a"), ("a/b", "c"), ("a", "b/c")]
    asked = PerturbationSettings(is_top=True, functions=("task/a", "task/b", "task/a"))
    assert wanted_functions(functions, asked, "here") == functions[:2]
    assert wanted_functions(functions, PerturbationSettings(is_top=True), "here") == functions


def test_a_function_that_the_run_did_not_score_on_half_a_is_no_source(store, headed):
    """Another corpus has the function in both halves; the run's corpus has it in a text of half b alone."""
    with Database(store) as database:
        (of_half_b,) = database.sql("select text from texts where half = 'b' limit 1").pl()["text"]
        others = database.sql("select text from texts where half = 'a'").pl()["text"].to_list()
    instances = [
        Instance(of_half_b, {"task/animal": True}),
        *(Instance(text, {"task/animal": False}) for text in others),
    ]
    build_corpus(Source(instances, "few", None, "test: literals", "explicit"), "few", store=store.path)
    report = ingest_model(str(headed("bert")), corpus="few", store=store.path, name="tiny-bert")
    with pytest.raises(AnalysisError, match=r"^no source has neurons enough for a dose: the most is 0 of 128 neurons"):
        study_perturbation(
            str(headed("bert")), store=store.path, name="tiny-bert", run=report.run_id, corpus="sentences",
            settings=PerturbationSettings(is_top=True, **QUICK),
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["clamp", "noise"])
def test_a_perturbation_that_overflows_is_read_as_an_effect(perturbed, store, kind):
    query = "select stack, layer, neuron, 1e38 as value from neurons where layer = 1 order by neuron limit 30"
    perturbed(query=query, kind=kind, scale=1e38 if kind == "noise" else 1.0, doses=None)
    with Database(store) as database:
        found = database.sql("select perturbed from perturbations where selection = 'query'").pl()["perturbed"]
    # What is not a number is no positive: every function is at chance.
    assert found.to_list() == pytest.approx([0.5] * len(found))


def test_a_loss_that_overflows_is_refused(perturbed, store):
    query = "select stack, layer, neuron, 1e38 as value from neurons where layer = 1 order by neuron limit 30"
    message = (
        r"^the loss of \d+ instances is not finite where 30 neurons of query/query \(query, seed 0\) are perturbed; "
    )
    with pytest.raises(AnalysisError, match=message):
        perturbed(query=query, kind="clamp", doses=None, readout="loss")
    assert len(store.commits()) == 2
