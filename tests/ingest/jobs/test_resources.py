"""What a job may use: the disk that is free, and the memory it is given."""

import dataclasses
import shutil
from typing import NamedTuple

import pytest

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.stored import StoredCorpus
from neuronlake.ingest.jobs import measurement
from neuronlake.ingest.jobs.forward import ForwardPass
from neuronlake.ingest.jobs.measurement import load_requested, prepare
from neuronlake.ingest.jobs.settings import Coactivation, Request, Resources
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.progress import SilentProgress
from neuronlake.schema.job import Job
from neuronlake.schema.store import Store

pytestmark = pytest.mark.long


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


class Notes(SilentProgress):
    """Keeps what is noted and the phases."""

    def __init__(self):
        self.notes, self.phases = [], []

    def note(self, message):
        self.notes.append(message)

    def phase(self, name, *, total, unit):
        self.phases.append(name)


@pytest.fixture
def free(monkeypatch):
    """Return a function that sets the free bytes of the disk."""

    def leave(n_bytes):
        monkeypatch.setattr(measurement.shutil, "disk_usage", lambda _: Usage(0, 0, n_bytes))

    return leave


@pytest.fixture
def contents(read_rows):
    """Return a function that reads the scores of a store."""
    return lambda store: {name: read_rows(store, name) for name in ("neuron_functions", "neurons", "coactivations")}


@pytest.mark.parametrize("kind", ["bert", "olmoe"])
def test_a_disk_that_holds_the_activations_of_one_layer_takes_a_pass_for_each(
    ingest, filled, tmp_path, make_corpus, spans, contents, free, kind
):
    coactivation = Coactivation(n_partners=3)
    report = ingest(kind, coactivation=coactivation)
    narrow, progress = Store(tmp_path / "narrow"), Notes()
    make_corpus(narrow, spans)
    layer_bytes = report.n_instances * 4 * report.n_neurons // report.n_layers
    free(layer_bytes * 12 // 10 + 4 * report.n_instances * 64)
    assert ingest(kind, store=narrow, coactivation=coactivation, progress=progress).run_id == report.run_id
    assert progress.phases == ["forward", "scoring"] * report.n_layers
    (note,) = (note for note in progress.notes if "passes" in note)
    assert note == f"the disk does not hold the activations of all layers: {report.n_layers} passes, some layers each"
    assert contents(narrow) == contents(filled)


def test_a_pass_that_is_killed_leaves_the_passes_before_it_done(
    ingest, filled, tmp_path, make_corpus, spans, contents, free, monkeypatch
):
    report = ingest(coactivation=Coactivation(n_partners=3))
    narrow, progress, read, blocks = Store(tmp_path / "narrow"), Notes(), [], ForwardPass.blocks
    make_corpus(narrow, spans)
    free(report.n_instances * 4 * report.n_neurons // report.n_layers * 12 // 10)

    def stop_in_the_second(self, layer):
        read.append(layer.layer)
        if len(read) == 2:
            free(1 << 30)  # then all would fit
            raise KeyboardInterrupt
        return blocks(self, layer)

    monkeypatch.setattr(ForwardPass, "blocks", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt) as stopped:
        ingest(store=narrow, coactivation=Coactivation(n_partners=3))
    assert stopped.value.__notes__ == ["100% of the forward pass is kept; the same command goes on"]
    ingest(store=narrow, coactivation=Coactivation(n_partners=3), progress=progress)
    assert read == [0, 1, 1]
    assert progress.phases == ["scoring"], "the model runs no text again"
    assert contents(narrow) == contents(filled)


@pytest.mark.parametrize("is_cut_first", [True, False])
def test_a_part_that_was_killed_between_its_tables_does_not_stay_beside_one_that_is_cut_otherwise(
    ingest, filled, tmp_path, make_corpus, spans, contents, free, monkeypatch, is_cut_first
):
    report, narrow, write = ingest(coactivation=Coactivation(n_partners=3)), Store(tmp_path / "narrow"), Job.write
    make_corpus(narrow, spans)
    room = {True: report.n_instances * 4 * report.n_neurons // report.n_layers * 12 // 10, False: 1 << 30}
    free(room[is_cut_first])

    def killed(self, name, *arguments, **options):
        if name == "top_instances":
            raise KeyboardInterrupt
        write(self, name, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(store=narrow, coactivation=Coactivation(n_partners=3))
    shutil.rmtree(narrow.staging / report.run_id / "forward")
    free(room[not is_cut_first])
    ingest(store=narrow, coactivation=Coactivation(n_partners=3))
    assert contents(narrow) == contents(filled)
    assert narrow.check() == ()


def test_what_other_jobs_keep_makes_no_room(filled, tiny_model, free):
    request = Request(Checkpoint(str(tiny_model("bert"))), StoredCorpus(filled, "test"))
    prepared = prepare(request, load_requested(request), SilentProgress())
    layer_bytes = prepared.tokens.n_instances * 4 * prepared.layers[0].n_neurons
    free(layer_bytes * 12 // 10)
    with filled.job("other", kind="run") as other:
        (other.folder("forward") / "activations.bin").write_bytes(bytes(4 * layer_bytes))
        assert len(prepared.passes(prepared.layers)) == len(prepared.layers)
        assert len(prepared.passes(prepared.layers, other.folder("forward"))) == 1


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_disk_that_does_not_hold_one_layer_is_refused_before_anything_runs(ingest, filled, free, tree, dry_run):
    free(1000)
    before = tree(filled)
    with pytest.raises(IngestError, match=r"activations of encoder layer 0 take .* kB, and .* has 900 bytes of disk"):
        ingest(dry_run=dry_run)
    assert tree(filled) == before


def test_batches_hold_no_more_instances_than_memory_allows(filled, tiny_model, monkeypatch):
    request = Request(Checkpoint(str(tiny_model("bert"))), StoredCorpus(filled, "test"))
    whole = prepare(request, load_requested(request), SilentProgress())
    # Three batches are under way, in half of the memory: five instances each.
    small = Resources(memory_bytes=2 * 3 * 5 * 4 * sum(layer.n_neurons for layer in whole.layers))
    tight = dataclasses.replace(whole, request=dataclasses.replace(request, resources=small))
    monkeypatch.setattr(measurement, "_LEAST_BATCH_BYTES", 1)
    batches = list(tight.batches())
    assert len(batches) > len(list(whole.batches()))
    assert all(batch.last - batch.first <= 5 or len(batch.texts) == 1 for batch in batches)
