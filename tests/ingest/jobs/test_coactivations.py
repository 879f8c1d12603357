"""Co-activation: exact counts, the closest partners, and a job beside the run's."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from neuronlake.errors import IngestError
from neuronlake.ingest.jobs import sinks
from neuronlake.ingest.jobs.forward import ForwardPass
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Coactivation, Resources
from neuronlake.ingest.scores.coactivation import active_bits, closest_partners
from neuronlake.ingest.scores.scoring import NonFiniteError
from neuronlake.schema.conformance import check
from neuronlake.schema.job import Job
from neuronlake.schema.store import Store
from neuronlake.schema.tables import table

# One text a batch, as in the recomputations: matrix products of the same shapes round the same way.
ALONE = Resources(batch_tokens=1)


def floats(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def bits_of(active: np.ndarray) -> np.ndarray:
    return active_bits(active.astype(np.float32))


def draw(n_neurons: int, n_instances: int, share: float = 0.4) -> np.ndarray:
    return np.random.default_rng(n_neurons * 1000 + n_instances).random((n_neurons, n_instances)) < share


def brute_force(active: np.ndarray, n_partners: int) -> list[list[tuple[int, int]]]:
    """Return, of each neuron, its partners and the instances in common, closest first.

    Of so few instances two quotients are the same floating-point number only if they are equal.
    """
    both = active.astype(int) @ active.astype(int).T
    found = []
    for neuron, row in enumerate(both.tolist()):
        closeness = {
            other: n_both / (int(both[neuron, neuron] + both[other, other]) - n_both)
            for other, n_both in enumerate(row)
            if other != neuron and n_both
        }
        closest = sorted(closeness, key=lambda other: (-closeness[other], other))[:n_partners]
        found.append([(other, row[other]) for other in closest])
    return found


def pairs(active: np.ndarray, n_partners: int, **arguments) -> list[list[tuple[int, int]]]:
    found = closest_partners(bits_of(active), n_partners, **arguments)
    return [
        [(other, n_both) for other, n_both in zip(partner, n_both, strict=True) if other >= 0]
        for partner, n_both in zip(found.partner.tolist(), found.n_both.tolist(), strict=True)
    ]


def test_a_neuron_is_active_where_its_activation_is_positive():
    (bits,) = active_bits(floats([0.5, 0.0, -0.0, -1.0, 1e-30, 2.0]))
    assert np.unpackbits(bits.view(np.uint8))[:6].tolist() == [1, 0, 0, 0, 1, 1]
    assert np.bitwise_count(bits).tolist() == [3]


def test_a_neuron_is_active_on_its_highest_instances():
    (bits,) = active_bits(floats([-3, -1, -2, -5, -4]), n_highest=2)
    assert np.unpackbits(bits.view(np.uint8))[:5].tolist() == [0, 1, 1, 0, 0]


def test_instances_tied_at_the_cut_do_not_count():
    activations = floats([3, 1, 1, 0, 0], [1, 1, 1, 1, 0], [2, 2, 2, 2, 2])
    assert np.bitwise_count(active_bits(activations, n_highest=2)).sum(axis=1).tolist() == [1, 0, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_activations_that_are_not_finite_are_refused(value):
    with pytest.raises(NonFiniteError, match=r"at neuron 1, instance 2"):
        active_bits(floats([0, 0, 0], [0, 0, value]))


@pytest.mark.parametrize("n_instances", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("n_neurons", [1, 4, 5, 31])
def test_counts_are_those_of_a_matrix_product(n_neurons, n_instances):
    active = draw(n_neurons, n_instances)
    found = closest_partners(bits_of(active), n_neurons)
    counts = np.zeros((n_neurons, n_neurons), dtype=np.int64)
    for neuron, (partner, n_both) in enumerate(zip(found.partner, found.n_both, strict=True)):
        counts[neuron, partner[partner >= 0]] = n_both[partner >= 0]
    np.fill_diagonal(counts, found.n_active)
    np.testing.assert_array_equal(counts, active.astype(int) @ active.astype(int).T)


@pytest.mark.parametrize("n_partners", [1, 6, 100])
def test_partners_are_the_closest_by_jaccard_index_and_the_lower_of_two_equally_close(n_partners):
    active = draw(41, 7)  # so few instances that most are tied
    assert pairs(active, n_partners) == brute_force(active, n_partners)


def test_partners_of_many_instances_are_the_closest_by_jaccard_index():
    active = draw(30, 3000)
    assert pairs(active, 8) == brute_force(active, 8)


def test_a_neuron_that_is_never_active_has_no_partner_and_is_none():
    assert pairs(np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1], [0, 0, 0]]), 3) == [[(2, 1)], [], [(0, 1)], []]


def test_threads_change_nothing():
    active = draw(75, 130)
    assert pairs(active, 5, n_threads=3) == pairs(active, 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_partners": 0}, "n_partners is 0; it must be at least 1"),
        ({"active_share": 0.0}, r"active_share is 0\.0; it must be above 0 and below 1"),
        ({"active_share": 1.0}, r"active_share is 1\.0; it must be above 0 and below 1"),
        ({"active_share": float("nan")}, "active_share is nan; it must be above 0 and below 1"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(IngestError, match=message):
        Coactivation(**values)


def test_a_share_of_the_instances_is_taken_as_it_is_written():
    assert int(0.29 * 100) == 28, "floats would do"
    assert Coactivation(active_share=0.29).n_highest(100) == 29
    assert Coactivation(active_share=0.29).n_highest(103) == 29


def olmoe_activations(folder: Path, instances) -> list[np.ndarray]:
    """Return the pooled activations of each layer, from its router and experts written out. [neurons, instances]"""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    seen = {}
    for layer, block in enumerate(model.layers):
        block.mlp.register_forward_pre_hook(lambda _, inputs, layer=layer: seen.update({layer: inputs[0][0]}))
    pooled = [[] for _ in model.layers]
    for instance in instances:
        encoded = tokenizer(instance.text, return_offsets_mapping=True, return_special_tokens_mask=True)
        start, end = (0, len(instance.text)) if instance.start is None else (instance.start, instance.end)
        offsets = zip(encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
        inside = [not special and first < end and last > start for (first, last), special in offsets]
        with torch.no_grad():
            model(torch.tensor([encoded["input_ids"]]))
            for layer, block in enumerate(model.layers):
                experts = (seen[layer] @ block.mlp.gate.weight.T).topk(2, dim=-1).indices
                is_sent = torch.nn.functional.one_hot(experts, 4).sum(1)
                gate, up = torch.einsum("th,efh->tef", seen[layer], block.mlp.experts.gate_up_proj).chunk(2, dim=-1)
                values = torch.nn.functional.silu(gate) * up * is_sent[..., None]
                pooled[layer].append(values[torch.tensor(inside)].amax(0).flatten().numpy())
    return [np.array(each).T for each in pooled]


@pytest.mark.parametrize("active_share", [None, 0.1])
@pytest.mark.parametrize("kind", ["bert", "t5", "llama", "olmoe"])
def test_the_table_holds_the_pairs_of_the_activations(
    ingest, filled, tiny_model, recompute, read_rows, spans, kind, active_share
):
    report = ingest(kind, resources=ALONE, coactivation=Coactivation(n_partners=5, active_share=active_share))
    if kind == "olmoe":
        activations = olmoe_activations(tiny_model(kind), spans)
    else:
        activations = recompute(tiny_model(kind), kind, filled, spans, negatives="rest").activations
    rows = read_rows(filled, "coactivations")
    assert {row["run_id"] for row in rows} == {report.run_id}
    assert {row["activity"] for row in rows} == {"positive" if active_share is None else "top-0.1"}
    for layer, values in enumerate(activations):
        if active_share is None:
            active = values > 0
        else:
            n_highest = len(spans) // 10
            active = values > np.sort(values, axis=1)[:, -n_highest - 1, None]
        n_active = active.sum(1).tolist()
        expected = [
            (neuron, partner, n_both, n_active[neuron], n_active[partner])
            for neuron, closest in enumerate(brute_force(active, 5))
            for partner, n_both in closest
        ]
        names = ("neuron", "partner", "n_both", "n_active", "n_active_partner")
        assert [tuple(row[name] for name in names) for row in rows if row["layer"] == layer] == expected


def test_the_files_conform_to_the_declaration(ingest, filled):
    report = ingest(coactivation=Coactivation(n_partners=3))
    (path,) = filled.files("coactivations")
    check(table("coactivations"), pq.read_table(path, partitioning=None))
    name = Coactivation(n_partners=3).job_name(report.run_id)
    assert path.relative_to(filled.path.absolute()).as_posix() == (
        f"data/coactivations/tiny-bert/main/{name}-0.parquet"
    )
    assert [(commit.job, commit.kind) for commit in filled.commits()][1:] == [
        (report.run_id, "run"),
        (name, "coactivation"),
    ]
    assert filled.check() == ()


def test_memory_and_parts_change_nothing(ingest, filled, tmp_path, make_corpus, spans, read_rows, monkeypatch):
    ingest(coactivation=Coactivation())
    other = Store(tmp_path / "other")
    make_corpus(other, spans)
    monkeypatch.setattr(sinks, "PART_ROWS", 1)
    ingest(store=other, resources=Resources(memory_bytes=1), coactivation=Coactivation())
    assert len(other.files("coactivations")) == 2
    assert read_rows(other, "coactivations") == read_rows(filled, "coactivations")


@pytest.fixture
def layers_run(monkeypatch) -> list[list[int]]:
    """Return a list that gets the layers of each pass in which the model runs."""
    passes = []
    run = ForwardPass.run

    def spy(self, progress):
        if self.percent < 100:
            passes.append([layer.layer for layer in self.layers])
        run(self, progress)

    monkeypatch.setattr(ForwardPass, "run", spy)
    return passes


def test_one_pass_serves_the_run_and_its_coactivations(ingest, layers_run):
    report = ingest(coactivation=Coactivation())
    assert (report.is_new, report.adds_coactivations, layers_run) == (True, True, [[0, 1]])
    assert f"over {report.n_instances} instances, coactivations (positive) added, " in report.describe()


def test_what_a_run_holds_does_not_depend_on_its_coactivations(ingest, filled, tmp_path, make_corpus, spans, contents):
    report = ingest("olmoe", coactivation=Coactivation())
    other = Store(tmp_path / "other")
    make_corpus(other, spans)
    assert ingest("olmoe", store=other).run_id == report.run_id
    assert contents(other) == contents(filled)


def test_coactivations_are_added_to_a_run_without_scoring_it_again(
    ingest, filled, tmp_path, make_corpus, spans, read_rows, tree, layers_run, monkeypatch
):
    other = Store(tmp_path / "other")
    make_corpus(other, spans)
    ingest("olmoe", store=other, coactivation=Coactivation())
    first = ingest("olmoe")
    before = tree(filled)
    layers_run.clear()
    monkeypatch.setattr(sinks, "score", None)
    report = ingest("olmoe", coactivation=Coactivation())
    assert (report.run_id, report.is_new, report.adds_coactivations) == (first.run_id, False, True)
    assert "; already in the store, coactivations (positive) added, " in report.describe()
    assert layers_run == [[0, 1]]
    after = tree(filled)
    assert {name: after[name] for name in before if name != "README.md"} == {
        name: time for name, time in before.items() if name != "README.md"
    }
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"commits", "data"}
    assert read_rows(filled, "coactivations") == read_rows(other, "coactivations")
    assert list((filled.path / ".staging").glob("*/")) == []


def test_adding_the_same_again_changes_no_file_and_runs_nothing(ingest, filled, tree, layers_run):
    ingest(coactivation=Coactivation(active_share=0.1))
    before = tree(filled)
    layers_run.clear()
    report = ingest(coactivation=Coactivation(active_share=0.1))
    assert (report.is_new, report.adds_coactivations, layers_run) == (False, False, [])
    assert report.describe().endswith("; already in the store with coactivations (top-0.1), nothing done")
    assert tree(filled) == before


def test_another_activity_stands_beside_and_another_number_of_partners_does_not(ingest, filled, tree):
    report = ingest(coactivation=Coactivation(n_partners=4))
    assert ingest(coactivation=Coactivation(n_partners=3, active_share=0.1)).adds_coactivations
    before = tree(filled)
    with pytest.raises(
        IngestError, match=f"coactivations \\(positive\\) of run {report.run_id} already, with up to 4 "
    ):
        ingest(coactivation=Coactivation(n_partners=3))
    assert tree(filled) == before
    assert list((filled.path / ".staging").glob("*/")) == []


def test_a_share_of_less_than_one_instance_is_refused_before_anything_is_run(ingest, filled, spans, tree, layers_run):
    before = tree(filled)
    with pytest.raises(IngestError, match=rf"active_share is 0\.001, less than one of {len(spans)} instances"):
        ingest(coactivation=Coactivation(active_share=0.001))
    assert (tree(filled), layers_run) == (before, [])


def test_progress_of_a_pass_for_coactivations_alone_is_reported_in_full(ingest):
    class RecordedProgress:
        def __init__(self):
            self.phases = []

        def phase(self, name, *, total, unit):
            self.phases.append([name, total, unit, 0])

        def advance(self, amount):
            self.phases[-1][3] += amount

        def note(self, text):
            raise AssertionError(text)

    ingest()
    progress = RecordedProgress()
    ingest(coactivation=Coactivation(), progress=progress)
    assert [(name, total - done) for name, total, _, done in progress.phases] == [("forward", 0), ("pairing", 0)]


@pytest.mark.slow
def test_a_killed_job_leaves_nothing_visible_and_goes_on_where_it_was(
    ingest, filled, tmp_path, tiny_model, make_corpus, spans, read_rows, contents, tree, layers_run, monkeypatch
):
    killed = Store(tmp_path / "killed")
    make_corpus(killed, spans)
    before = tree(killed)
    lines = f"""
        import os, signal, torch
        torch.set_num_threads(1)
        from neuronlake.ingest.jobs import job, sinks
        sinks.PART_ROWS = 1
        finish = sinks.CoactivationTables.finish
        def finish_one_and_die(*arguments):
            finish(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        sinks.CoactivationTables.finish = finish_one_and_die
        job.ingest_model(
            {str(tiny_model("bert"))!r}, corpus="test", store={str(killed.path)!r},
            coactivation=sinks.Coactivation(),
        )
        """
    repository = Path(__file__).resolve().parents[3]
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(lines)],
        env={**os.environ, "PYTHONPATH": str(repository / ".src")},
        capture_output=True,
        check=False,
    )
    assert process.returncode == -9, process.stderr.decode()[-2000:]
    assert tree(killed) == before

    monkeypatch.setattr(sinks, "PART_ROWS", 1)
    assert ingest(store=killed, coactivation=Coactivation()).adds_coactivations
    assert layers_run == []
    ingest(coactivation=Coactivation())
    assert contents(killed) == contents(filled)
    assert read_rows(killed, "coactivations") == read_rows(filled, "coactivations")
    assert list((killed.path / ".staging").glob("*/")) == []


def test_a_run_resumed_with_coactivations_scores_only_what_is_missing(
    ingest, filled, tmp_path, make_corpus, spans, read_rows, contents, layers_run, monkeypatch
):
    monkeypatch.setattr(sinks, "PART_ROWS", 1)
    write_part = sinks.ScoreTables.write_part

    def write_one_and_stop(*arguments):
        write_part(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(sinks.ScoreTables, "write_part", write_one_and_stop)
        with pytest.raises(KeyboardInterrupt):
            ingest()
    written = []

    def spy(tables, number):
        layers = [table["layer"].unique().to_pylist() for table in tables._rows["neurons"]]
        written.append((number, *layers, len(layers)))
        write_part(tables, number)

    monkeypatch.setattr(sinks.ScoreTables, "write_part", spy)
    ingest(coactivation=Coactivation())
    assert (layers_run, written) == ([[0, 1]], [(1, [1], 1)])
    other = Store(tmp_path / "other")
    make_corpus(other, spans)
    ingest(store=other, coactivation=Coactivation())
    assert contents(filled) == contents(other)
    assert read_rows(filled, "coactivations") == read_rows(other, "coactivations")


def test_a_job_stopped_between_its_commits_adds_the_coactivations_without_another_pass(
    ingest, filled, layers_run, monkeypatch
):
    commit = Job.commit

    def commit_runs_only(job):
        if job.kind != "run":
            raise KeyboardInterrupt
        return commit(job)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(Job, "commit", commit_runs_only)
        with pytest.raises(KeyboardInterrupt):
            ingest(coactivation=Coactivation())
    assert [len(filled.files(name)) for name in ("runs", "coactivations")] == [1, 0]
    layers_run.clear()
    report = ingest(coactivation=Coactivation())
    assert (report.is_new, report.adds_coactivations, layers_run) == (False, True, [])
    assert len(filled.files("coactivations")) == 1


def test_a_plan_says_what_would_be_added(filled, tiny_model):
    arguments = {"corpus": "test", "store": filled.path, "coactivation": Coactivation(n_partners=100)}
    plan = ingest_model(str(tiny_model("bert")), **arguments, dry_run=True)
    assert (plan.is_new, plan.adds_coactivations, plan.n_rows["coactivations"]) == (True, True, 2 * 64 * 63)
    assert "128 neurons" in plan.describe()
    assert "up to 8,064 coactivations" in plan.describe()
    ingest_model(str(tiny_model("bert")), corpus="test", store=filled.path)
    plan = ingest_model(str(tiny_model("bert")), **arguments, dry_run=True)
    assert plan.n_rows == {"coactivations": 8064}
    assert "is already in the store: coactivations would be added" in plan.describe()
    ingest_model(str(tiny_model("bert")), **arguments)
    plan = ingest_model(str(tiny_model("bert")), **arguments, dry_run=True)
    assert "is already in the store: nothing would be done" in plan.describe()
