"""The ingestion job: what it writes, and what it survives."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.jobs import forward, sinks
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Resources, Settings
from neuronlake.progress import SilentProgress
from neuronlake.schema.store import Store


def edit_weights(folder: Path, target: Path, change) -> Path:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_a_run_describes_itself(ingest, filled, read_rows, spans):
    report = ingest("llama", name="mine")
    (run,) = read_rows(filled, "runs")
    assert report.is_new
    assert (run["run_id"], run["model"], run["revision"]) == (report.run_id, "mine", "main")
    assert (run["step"], run["seed"], run["is_random_init"], run["router"], run["layers"]) == (
        None, None, False, None, None,
    )  # fmt: skip
    assert (run["site"], run["pooling"], run["dtype"], run["storage"]) == ("activation", "max", "float32", "float32")
    assert (run["n_instances"], run["n_texts"], run["n_dropped"], run["n_truncated"]) == (len(spans), 34, 0, 0)
    assert run["max_tokens"] == 64
    assert run["duration_s"] > 0
    layers = read_rows(filled, "layers")
    assert [(row["stack"], row["layer"], row["n_neurons"], row["is_gated"]) for row in layers] == [
        ("decoder", 0, 64, True),
        ("decoder", 1, 64, True),
    ]
    assert filled.check() == ()


def test_the_functions_of_a_run_count_what_was_measured(store, tiny_model, make_corpus, recompute, read_rows, spans):
    make_corpus(store, spans)
    ingest_model(str(tiny_model("bert")), corpus="test", store=store.path)
    expected = recompute(tiny_model("bert"), "bert", store, spans, negatives="rest")
    rows = {(row["family"], row["function"]): row for row in read_rows(store, "run_functions")}
    assert rows.keys() == expected.labels.keys()
    for name, labels in expected.labels.items():
        assert rows[name]["n_positive"] == (labels == 1).sum()
        assert rows[name]["n_negative"] == (labels == 0).sum()
        assert rows[name]["prevalence"] == pytest.approx((labels == 1).mean())
        for half, letter in enumerate("ab"):
            assert rows[name][f"n_positive_half_{letter}"] == (labels[expected.half == half] == 1).sum()
            assert rows[name][f"n_negative_half_{letter}"] == (labels[expected.half == half] == 0).sum()


def test_rows_are_sorted_by_layer_neuron_family_and_function(ingest, filled, read_rows):
    ingest()
    keys = [
        (row["stack"], row["layer"], row["neuron"], row["family"], row["function"])
        for row in read_rows(filled, "neuron_functions")
    ]
    assert keys == sorted(keys)


def test_norms_are_stored(ingest, filled, read_rows, tiny_model):
    from transformers import AutoModel

    ingest("gpt2")
    model = AutoModel.from_pretrained(tiny_model("gpt2"))
    rows = sorted((row for row in read_rows(filled, "neurons") if row["layer"] == 1), key=lambda row: row["neuron"])
    mlp = model.h[1].mlp
    np.testing.assert_allclose([row["input_norm"] for row in rows], mlp.c_fc.weight.detach().norm(dim=0), rtol=1e-6)
    np.testing.assert_allclose([row["output_norm"] for row in rows], mlp.c_proj.weight.detach().norm(dim=1), rtol=1e-6)


def test_measuring_again_changes_no_file(ingest, filled, tree):
    first = ingest()
    before = tree(filled)
    again = ingest()
    assert (first.is_new, again.is_new, again.run_id) == (True, False, first.run_id)
    assert tree(filled) == before


def test_measuring_again_a_checkpoint_without_a_pooler_changes_no_file(filled, tiny_model, tmp_path):
    def without_pooler(tensors):
        for name in ("pooler.dense.weight", "pooler.dense.bias"):
            tensors.pop(name)

    folder = edit_weights(tiny_model("bert"), tmp_path / "copy", without_pooler)
    reports = [ingest_model(str(folder), corpus="test", store=filled.path) for _ in range(2)]
    assert [report.is_new for report in reports] == [True, False]


def test_a_random_initialisation_is_a_revision_like_any_other(ingest, filled, read_rows):
    ingest()
    report = ingest(random_init=3)
    (run,) = (row for row in read_rows(filled, "runs") if row["run_id"] == report.run_id)
    assert (run["revision"], run["seed"], run["is_random_init"], run["step"]) == ("random-3", 3, True, 0)
    assert len(read_rows(filled, "neurons")) == 2 * 2 * 64


@pytest.mark.parametrize("kind", ["bert", "t5-gated"])
def test_spilling_to_disk_changes_nothing(ingest, tmp_path, make_corpus, spans, contents, filled, kind):
    ingest(kind)
    for memory_bytes in (1, 40_000):
        spilling = Store(tmp_path / f"spilling-{memory_bytes}")
        make_corpus(spilling, spans)
        ingest(kind, store=spilling, resources=Resources(memory_bytes=memory_bytes))
        assert contents(spilling) == contents(filled)
        assert list((spilling.path / ".staging").glob("*/")) == []


def test_cutting_the_job_into_parts_changes_nothing(
    ingest, tmp_path, make_corpus, spans, contents, filled, monkeypatch
):
    ingest()
    monkeypatch.setattr(sinks, "PART_ROWS", 1)
    parted = Store(tmp_path / "parted")
    make_corpus(parted, spans)
    ingest(store=parted)
    assert contents(parted) == contents(filled)
    assert len(parted.files("neurons")) == 2


class RecordedProgress(SilentProgress):
    """Remembers phases and notes, and what of each phase was done."""

    def __init__(self):
        self.phases, self.notes = [], []

    def phase(self, name, *, total, unit):
        self.phases.append([name, total, unit, 0])

    def advance(self, amount):
        self.phases[-1][3] += amount

    def note(self, text):
        # Of the others are `test_clusters` and `test_min_instances`.
        if not text.startswith("labels go by") and "functions have fewer than 5" not in text:
            self.notes.append(text)


def python(lines: str) -> subprocess.CompletedProcess:
    """Run a script in a process of its own, on one thread as the tests do."""
    repository = Path(__file__).resolve().parents[3]
    return subprocess.run(
        [sys.executable, "-c", "import torch\ntorch.set_num_threads(1)\n" + textwrap.dedent(lines)],
        env={**os.environ, "PYTHONPATH": str(repository / ".src")},
        capture_output=True,
        check=False,
    )


@pytest.fixture
def parquet():
    """Return a function that reads the bytes of every committed file of a run, but those that say when it was made."""

    def read(store: Store, run_id: str) -> dict[str, bytes]:
        files = store.commit(run_id).files
        return {file.path: (store.path / file.path).read_bytes() for file in files if file.table != "runs"}

    return read


SMALL = Resources(batch_tokens=32)


def test_a_job_killed_in_its_forward_pass_runs_the_rest_of_it_and_ends_the_same(
    ingest, tmp_path, make_corpus, spans, contents, filled, tiny_model, tree, parquet
):
    whole, rest = RecordedProgress(), RecordedProgress()
    run_id = ingest("olmoe", resources=SMALL, progress=whole).run_id
    killed = Store(tmp_path / "killed")
    make_corpus(killed, spans)
    before = tree(killed)
    process = python(f"""
        import os
        from neuronlake.ingest.jobs import forward
        from neuronlake.ingest.jobs.job import ingest_model
        from neuronlake.ingest.jobs.settings import Resources
        run, done = forward.run_batch, []
        def run_or_die(*arguments):
            if len(done) == 12:
                os._exit(9)
            done.append(run(*arguments))
        forward.run_batch = run_or_die
        small = Resources(batch_tokens=32)
        ingest_model({str(tiny_model("olmoe"))!r}, corpus="test", store={str(killed.path)!r}, resources=small)
        """)
    assert process.returncode == 9, process.stderr.decode()[-2000:]
    assert tree(killed) == before
    ingest("olmoe", store=killed, resources=SMALL, progress=rest)
    ((_, all_tokens, _, _), _), ((_, tokens, _, done), _) = whole.phases, rest.phases
    # Of 12 batches all but those under way, and the instances of which a section was not full, were kept.
    assert tokens == done < 0.75 * all_tokens
    (note,) = rest.notes
    assert (
        note
        == f"going on at {100 * (all_tokens - tokens) // all_tokens}% of the forward pass, kept from an earlier attempt"
    )
    assert contents(killed) == contents(filled)
    assert parquet(killed, run_id) == parquet(filled, run_id)
    assert list((killed.path / ".staging").glob("*/")) == [], "what the killed job kept is still there"


def test_a_job_that_is_interrupted_says_what_is_kept_and_runs_no_batch_again(ingest, monkeypatch, contents, filled):
    run, n_run = forward.run_batch, []

    def run_or_stop(*arguments):
        if len(n_run) == 10:
            raise KeyboardInterrupt
        n_run.append(run(*arguments))

    with monkeypatch.context() as stopping:
        stopping.setattr(forward, "run_batch", run_or_stop)
        with pytest.raises(KeyboardInterrupt) as stopped:
            ingest("switch", resources=SMALL)
    (note,) = stopped.value.__notes__
    assert re.fullmatch(r"\d\d% of the forward pass is kept; the same command goes on", note)
    progress = RecordedProgress()
    ingest("switch", resources=SMALL, progress=progress)
    assert f"going on at {note[:3]} of the forward pass, kept from an earlier attempt" in progress.notes


@pytest.mark.parametrize("record", ["", "[1]", "{}"])
def test_a_forward_pass_without_a_record_of_what_it_was_starts_over(ingest, store, monkeypatch, record):
    with monkeypatch.context() as stopping:
        stopping.setattr(forward.ForwardPass, "blocks", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ingest(resources=SMALL)
    (kept,) = store.staging.glob("*/forward/pass.json")
    kept.write_text(record)
    progress = RecordedProgress()
    ingest(resources=SMALL, progress=progress)
    assert progress.phases[0][0] == "forward"


@pytest.mark.parametrize(
    ("batch_tokens", "device", "reason"), [(33, "cpu", "batch tokens 32, not 33"), (32, "H9", "device cpu, not H9")]
)
def test_a_forward_pass_that_was_of_something_else_starts_over_and_says_why(
    ingest, monkeypatch, batch_tokens, device, reason
):
    with monkeypatch.context() as stopping:
        stopping.setattr(forward.ForwardPass, "blocks", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ingest(resources=SMALL)
    monkeypatch.setattr(forward, "device_name", lambda _: device)
    progress = RecordedProgress()
    ingest(resources=Resources(batch_tokens=batch_tokens), progress=progress)
    assert progress.notes == [f"the forward pass starts over: an earlier attempt was of {reason}"]
    assert progress.phases[0][0] == "forward"


@pytest.mark.slow
def test_a_job_killed_after_a_part_scores_the_rest_without_another_pass(
    ingest, tmp_path, make_corpus, spans, contents, filled, monkeypatch, tiny_model
):
    ingest()
    killed = Store(tmp_path / "killed")
    make_corpus(killed, spans)
    process = python(f"""
        import os, signal
        from neuronlake.ingest.jobs import sinks
        from neuronlake.ingest.jobs.job import ingest_model
        sinks.PART_ROWS = 1
        write = sinks.ScoreTables.write_part
        def write_one_and_die(*arguments):
            write(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        sinks.ScoreTables.write_part = write_one_and_die
        ingest_model({str(tiny_model("bert"))!r}, corpus="test", store={str(killed.path)!r})
        """)
    assert process.returncode == -9, process.stderr.decode()[-2000:]
    assert [commit.kind for commit in killed.commits()] == ["corpus"]
    monkeypatch.setattr(sinks, "PART_ROWS", 1)
    progress = RecordedProgress()
    assert ingest(store=killed, progress=progress).is_new
    assert progress.notes == ["going on at 100% of the forward pass, kept from an earlier attempt"]
    assert [phase[:2] for phase in progress.phases] == [["scoring", 64]]
    assert contents(killed) == contents(filled)
    assert killed.check() == ()
    assert list((killed.path / ".staging").glob("*/")) == []


@pytest.mark.parametrize(
    ("place", "error"),
    [
        (
            "forward.run_batch",
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
        ),
        ("forward.run_batch", torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …")),
        ("sinks.score", MemoryError("Unable to allocate 9.00 GiB for an array")),
    ],
)
def test_a_lack_of_memory_is_one_line_and_keeps_the_forward_pass(ingest, monkeypatch, place, error):
    def fail(*_, **__):
        raise error

    with monkeypatch.context() as lacking:
        lacking.setattr(f"neuronlake.ingest.jobs.{place}", fail)
        with pytest.raises(IngestError) as raised:
            ingest()
    quoted = str(error).splitlines()[0]
    assert str(raised.value) == (
        f"model tiny-bert runs out of memory ({quoted}); lower `batch_tokens` or `memory_bytes`, or choose another "
        "`device`"
    )
    progress = RecordedProgress()
    ingest(progress=progress)
    assert bool(progress.notes) == (place == "sinks.score")


def test_activations_that_are_not_finite_are_refused_with_layer_neuron_and_instance(filled, tiny_model, tmp_path, tree):
    def overflow(tensors):
        tensors["encoder.layer.1.intermediate.dense.weight"][5] = 3e38

    folder = edit_weights(tiny_model("bert"), tmp_path / "copy", overflow)
    before = tree(filled)
    for memory_bytes in (1 << 30, 1):
        with pytest.raises(IngestError, match=r"activation -?(inf|nan) of encoder layer 1, neuron 5, on instance \d+"):
            ingest_model(str(folder), corpus="test", store=filled.path, resources=Resources(memory_bytes=memory_bytes))
        assert tree(filled) == before
        assert list(filled.path.glob(".staging/*/forward")) == [], "activations that would be refused again are kept"


def test_the_instance_of_an_activation_that_is_not_finite_is_named_as_stored(
    store, tiny_model, make_corpus, tmp_path, words
):
    # Only "song" overflows; its text is the shortest, so that it is run last, but stored first.
    def overflow(tensors):
        token = 4 + words.index("song")  # after four special tokens
        tensors["embeddings.word_embeddings.weight"][:] = 0
        tensors["embeddings.word_embeddings.weight"][token, 0] = 1
        tensors["embeddings.position_embeddings.weight"][:] = 0
        tensors["embeddings.token_type_embeddings.weight"][:] = 0
        tensors["encoder.layer.0.attention.output.dense.weight"][:] = 0
        tensors["encoder.layer.0.intermediate.dense.weight"][5] = 0
        tensors["encoder.layer.0.intermediate.dense.weight"][5, 0] = 3e38

    folder = edit_weights(tiny_model("bert"), tmp_path / "copy", overflow)
    texts = ["song", "the cat sat", "the dog ran", "a bird flew"]
    make_corpus(store, [Instance(text, {"f/g": index % 2 == 0}) for index, text in enumerate(texts)])
    with pytest.raises(IngestError, match=r"layer 0, .*neuron 5\b.*instance 0\b"):
        ingest_model(str(folder), corpus="test", store=store.path)


def test_float16_storage_is_refused_where_it_does_not_reach(filled, tiny_model, tmp_path, tree):
    def large(tensors):
        tensors["encoder.layer.0.intermediate.dense.bias"][5] = 1e5

    folder = edit_weights(tiny_model("bert"), tmp_path / "copy", large)
    before = tree(filled)
    with pytest.raises(IngestError, match="beyond the range of float16; store activations as float32"):
        ingest_model(str(folder), corpus="test", store=filled.path, settings=Settings(storage="float16"))
    assert tree(filled) == before
    assert ingest_model(str(folder), corpus="test", store=filled.path).is_new


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_models_are_measured(ingest, filled, read_rows, dtype):
    full = ingest("llama")
    half = ingest("llama", settings=Settings(dtype=dtype))
    rows = read_rows(filled, "neurons")
    means = [[row["mean"] for row in rows if row["run_id"] == run] for run in (full.run_id, half.run_id)]
    np.testing.assert_allclose(means[1], means[0], atol=0.1)
    assert means[0] != means[1]


def test_the_files_hold_plain_columns_under_plain_folders(ingest, filled):
    report = ingest()
    (path,) = filled.files("neuron_functions")
    assert path.relative_to(filled.path.absolute()).as_posix() == (
        f"data/neuron_functions/tiny-bert/main/{report.run_id}-0.parquet"
    )
    schema = pq.read_schema(path)
    assert {str(schema.field(name).type) for name in ("run_id", "model", "revision", "family")} == {"string"}
    assert str(schema.field("ap").type) == "float"


def test_progress_is_told_in_full(ingest):
    progress = RecordedProgress()
    ingest("t5", progress=progress)
    assert [phase[0] for phase in progress.phases] == ["forward", "scoring"]
    assert all(total == done > 0 for _, total, _, done in progress.phases)
    assert progress.notes == [
        "tiny-t5 is an encoder-decoder: its encoder alone is measured, for 34 texts of corpus test have no target for "
        "its decoder to read"
    ]


def test_what_instances_share_is_stored_with_each_neuron_and_function_and_noted(
    store, tiny_model, make_corpus, spans, read_rows
):
    class Notes(SilentProgress):
        def note(self, text):
            notes.append(text)

    notes = []
    make_corpus(store, spans)
    ingest_model(str(tiny_model("bert")), corpus="test", store=store.path, progress=Notes())
    assert notes[1:] == [
        "labels go by word in 1 of 3 functions (semantic/long): their p-values count words, not instances"
    ]
    functions = {row["function"]: row for row in read_rows(store, "run_functions")}
    words = [
        instance.text[instance.start : instance.end].casefold() for instance in spans if instance.start is not None
    ]
    assert functions["long"]["word_pairs"] > functions["drawn"]["word_pairs"]
    assert 1 < functions["long"]["n_word_clusters"] < len(set(words))
    assert functions["long"]["group_pairs"] is None  # no texts are split together
    neurons = read_rows(store, "neurons")
    assert all(row["text_correlation"] >= 0 and row["word_correlation"] >= 0 for row in neurons)
    assert {row["group_correlation"] for row in neurons} == {None}
