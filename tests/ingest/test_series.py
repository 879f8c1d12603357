"""Series of checkpoints: which revisions are chosen, what fails alone, and what is not loaded again."""

import json
import os
import shutil

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from neuronlake.errors import IngestError, UnknownNameError
from neuronlake.ingest import measurement, source
from neuronlake.ingest.coactivation import Coactivation
from neuronlake.ingest.progress import SilentProgress
from neuronlake.ingest.request import Request
from neuronlake.ingest.revisions import Checkpoint, choose_checkpoints, read_steps
from neuronlake.ingest.series import Failure, ingest_checkpoints, ingest_series, missing_steps
from neuronlake.ingest.settings import Resources, Settings

PYTHIA = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 144_000, 1000)]
ROOT_OF_TWO = [0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256]


def weights_of(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def save_weights(folder, tensors):
    from safetensors.torch import save_file

    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """Return a folder of three checkpoints with weights of their own."""
    folder = tmp_path_factory.mktemp("series") / "trained"
    for step in (0, 10, 2000):
        copied = shutil.copytree(tiny_model("bert"), folder / f"step{step}")
        save_weights(copied, {name: values * (1 + step / 10_000) for name, values in weights_of(copied).items()})
    return folder


@pytest.fixture
def series(trained, tmp_path):
    """Return the folder of checkpoints, to be altered; times of change are kept."""
    return shutil.copytree(trained, tmp_path / "trained")


@pytest.fixture
def ingest_all(filled, series):
    """Return a function that measures the series, or what of it is asked for."""

    def run(**arguments):
        arguments.setdefault("revisions", "step*")
        return ingest_series(str(series), corpus="test", store=filled.path, **arguments)

    return run


@pytest.fixture
def loads(monkeypatch):
    """Return the list of revisions that are loaded from now on."""
    loaded, load = [], measurement.load

    def spy(model, *, revision, **arguments):
        loaded.append(revision)
        return load(model, revision=revision, **arguments)

    monkeypatch.setattr(measurement, "load", spy)
    return loaded


class Notes(SilentProgress):
    """Remembers what it is told, for each checkpoint and before them."""

    def __init__(self):
        self.lines = []

    def __call__(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def note(self, text):
        self.lines.append(text)


def fails(report):
    return [(each.revision, each.reason) for each in report.failures]


def test_every_matching_subfolder_is_measured_in_order_of_steps(ingest_all, loads, filled, read_rows):
    told = []
    report = ingest_all(tell=told.append)
    assert loads == ["step0", "step10", "step2000"]
    assert [(each.revision, each.is_new) for each in report.outcomes] == [
        ("step0", True), ("step10", True), ("step2000", True),
    ]  # fmt: skip
    assert tuple(told) == report.outcomes
    assert report.describe() == "0 of 3 revisions failed"
    assert [(row["model"], row["revision"], row["step"]) for row in read_rows(filled, "runs")] == [
        ("trained", "step0", 0), ("trained", "step10", 10), ("trained", "step2000", 2000),
    ]  # fmt: skip


def test_what_is_there_is_not_loaded_again_and_changes_no_file(ingest_all, loads, filled, tree):
    first = ingest_all()
    loads.clear()
    before = tree(filled)
    again = ingest_all()
    assert loads == []
    assert tree(filled) == before
    assert [each.run_id for each in again.outcomes] == [each.run_id for each in first.outcomes]
    assert {each.is_new for each in again.outcomes} == {False}
    sizes = ("n_layers", "n_neurons", "n_functions", "n_instances", "n_truncated", "n_dropped")
    assert [[getattr(each, name) for name in sizes] for each in again.outcomes] == [
        [getattr(each, name) for name in sizes] for each in first.outcomes
    ]


def test_one_checkpoint_asked_for_by_name_is_not_loaded_again_either(ingest_all, ingest, loads):
    first = ingest()
    loads.clear()
    assert (ingest().run_id, loads) == (first.run_id, [])


def test_what_differs_in_files_or_settings_is_loaded(ingest_all, loads, series):
    ingest_all()
    loads.clear()
    (series / "step10" / "tokenizer_config.json").touch()
    assert [each.is_new for each in ingest_all().outcomes] == [False, False, False]
    assert loads == ["step10"]
    loads.clear()
    ingest_all(settings=Settings(pooling="mean"), revisions="step0")
    ingest_all(name="other", revisions="step0")
    assert loads == ["step0", "step0"]


def test_coactivations_that_are_lacking_are_added_and_then_skipped(ingest_all, loads):
    ingest_all(revisions="step0")
    loads.clear()
    added, held = (ingest_all(revisions="step0", coactivation=Coactivation()).outcomes[0] for _ in range(2))
    assert (added.is_new, added.adds_coactivations) == (False, True)
    assert (held.is_new, held.adds_coactivations, held.activity) == (False, False, "positive")
    assert loads == ["step0"]


def test_a_corrupt_checkpoint_fails_alone_and_is_measured_alone_once_repaired(ingest_all, loads, series, trained):
    weights = series / "step10" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    report = ingest_all()
    ((revision, reason),) = fails(report)
    assert revision == "step10"
    assert reason.startswith(f"cannot load the weights of model '{series}': ")
    assert report.failures[0].describe() == f"revision step10: {reason}"
    assert report.describe() == "1 of 3 revisions failed: step10"
    assert [each.is_new for each in report.outcomes if not isinstance(each, Failure)] == [True, True]

    shutil.copy2(trained / "step10" / "model.safetensors", weights)
    loads.clear()
    assert [each.is_new for each in ingest_all().outcomes] == [False, True, False]
    assert loads == ["step10"]


def no_config(folder):
    (folder / "config.json").unlink()


def garbage_of_torch(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"garbage" * 100)


def empty_of_torch(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")


def no_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


def nan(folder):
    tensors = weights_of(folder)
    tensors["encoder.layer.0.output.dense.weight"][0, 0] = float("nan")
    save_weights(folder, tensors)


def overflow(folder):
    tensors = weights_of(folder)
    tensors["encoder.layer.1.intermediate.dense.weight"][5] = 3e38
    save_weights(folder, tensors)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (no_config, "its folder step10 has no config.json"),
        (garbage_of_torch, "its torch file is damaged, or holds more than tensors"),
        (empty_of_torch, "cannot load the weights of model"),
        (no_tokenizer, "tokenizer"),
        (nan, "weight encoder.layer.0.output.dense.weight holds NaN or infinite values"),
        (overflow, "of encoder layer 1, neuron 5, on instance"),
    ],
)
def test_every_damage_is_one_line_of_that_revision(ingest_all, series, damage, reason):
    damage(series / "step10")
    report = ingest_all(revisions="step*0")
    ((revision, line),) = fails(report)
    assert revision == "step10"
    assert reason in line
    assert "\n" not in line
    assert len(report.outcomes) == 3


def test_the_checkpoints_asked_for_are_recorded_once_with_those_that_fail(ingest_all, series, filled, read_rows, tree):
    no_config(series / "step10")
    (series / ".cache").mkdir()
    ingest_all(steps={"step30": 30})
    rows = sorted(read_rows(filled, "checkpoints"), key=lambda row: row["step"])
    assert [(row["model"], row["revision"], row["step"], row["source"]) for row in rows] == [
        ("trained", "step0", 0, "folder"),
        ("trained", "step10", 10, "folder"),
        ("trained", "step30", 30, "file"),
        ("trained", "step2000", 2000, "folder"),
    ]
    before = tree(filled)
    ingest_all(revisions="*")
    assert tree(filled) == before


def test_checkpoints_are_recorded_before_the_first_is_measured(ingest_all, filled, monkeypatch):
    kinds = []

    def look(*_, **__):
        kinds.extend(commit.kind for commit in filled.commits())
        raise IngestError("no")

    monkeypatch.setattr(measurement, "load", look)
    ingest_all(revisions="step0")
    assert kinds == ["corpus", "checkpoints"]


def test_every_tensor_has_a_digest_and_the_digest_of_all_is_of_these(ingest_all, filled, read_rows, series):
    import hashlib

    ingest_all(revisions="step0")
    rows = read_rows(filled, "weight_tensors")
    assert {row["tensor"]: row["n_values"] for row in rows} == {
        name: values.numel() for name, values in weights_of(series / "step0").items() if "pooler" not in name
    }
    digest = hashlib.sha256("\n".join(row["sha256"] for row in rows).encode()).hexdigest()
    assert digest == read_rows(filled, "runs")[0]["weights_sha256"]


def test_steps_come_from_the_mapping_before_the_name(ingest_all, filled, read_rows, loads):
    report = ingest_all(revisions=None, steps={"step0": 500, "step10": 3, "gone": 7})
    assert [each.revision for each in report.outcomes] == ["step10", "gone", "step0"]
    assert report.describe() == "1 of 3 revisions failed: gone"
    assert loads == ["step10", "step0"]
    assert [(row["revision"], row["step"]) for row in read_rows(filled, "runs")] == [("step10", 3), ("step0", 500)]
    assert {row["source"] for row in read_rows(filled, "checkpoints")} == {"file"}


def test_a_step_that_the_store_holds_stays(ingest_all, filled, read_rows, series, tree):
    ingest_all(steps={"step10": 3})
    before = tree(filled)
    with pytest.raises(IngestError, match=r"step10 of trained cannot be step 4: its list of checkpoints .* at step 3"):
        ingest_all(steps={"step10": 4})
    assert tree(filled) == before
    ingest_all(revisions="step10", settings=Settings(pooling="mean"))
    assert [row["step"] for row in read_rows(filled, "runs") if row["revision"] == "step10"] == [3, 3]


def test_a_step_that_a_run_holds_stays(ingest, filled, tiny_model, tmp_path, tree):
    shutil.copytree(tiny_model("bert"), tmp_path / "run" / "main")
    folder = str(tmp_path / "run")
    report = ingest_checkpoints([Request(folder, "test", "main")], store=filled).outcomes[0]
    before = tree(filled)
    with pytest.raises(IngestError, match=rf"cannot be step 5: run {report.run_id} in .* has it without a step"):
        ingest_series(folder, corpus="test", store=filled.path, steps={"main": 5})
    assert tree(filled) == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"revisions": "stp*"}, UnknownNameError, r"no revision 'stp\*' in .*trained"),
        ({"revisions": ["step*", "Step0"]}, UnknownNameError, r"no revision 'Step0' in .*; did you mean 'step0'"),
        ({"resources": Resources(device="abacus")}, IngestError, "trained does not load on device abacus"),
    ],
)
def test_what_fits_no_revision_stops_the_job_and_leaves_the_store_alone(
    ingest_all, filled, tree, arguments, error, message
):
    before = tree(filled)
    with pytest.raises(error, match=message):
        ingest_all(**arguments)
    assert tree(filled) == before


def test_an_unknown_corpus_stops_the_job(series, filled, tree):
    before = tree(filled)
    with pytest.raises(UnknownNameError, match="no corpus 'tset'"):
        ingest_series(str(series), corpus="tset", store=filled.path)
    assert tree(filled) == before


def test_a_layer_that_the_model_has_not_stops_the_job_at_the_first_that_loads(ingest_all, loads, series):
    no_config(series / "step0")
    with pytest.raises(IngestError, match=r"no layer \[9\]"):
        ingest_all(settings=Settings(layers=(9,)))
    assert loads == ["step10"]


def test_a_checkpoint_that_is_another_model_fails_alone(ingest_all, series, tiny_model):
    shutil.rmtree(series / "step2000")
    shutil.copytree(tiny_model("llama"), series / "step2000")
    config = series / "step2000" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 1}))
    report = ingest_all(settings=Settings(layers=(1,)))
    assert [revision for revision, _ in fails(report)] == ["step2000"]


def test_a_file_has_no_revisions(filled, tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"")
    with pytest.raises(IngestError, match=r"model\.gguf is one file and has no revisions"):
        ingest_series(str(tmp_path / "model.gguf"), corpus="test", store=filled.path)


def test_what_looks_wrong_with_a_series_is_noted(ingest_all):
    notes = Notes()
    names = {f"r{step}": step for step in (0, 1000, 2000, 4000, 5000)}
    ingest_all(revisions=["step0", "r*", "m*"], steps={**names, "main": 6000}, progress=notes, dry_run=True)
    assert notes.lines == [
        "step 0 is of several revisions: r0, step0",
        "no checkpoint at step 3000, where steps are otherwise 1000 apart",
    ]


def test_revisions_without_a_step_are_measured_last_and_noted(ingest_all, series, loads):
    (series / "step2000").rename(series / "final")
    notes = Notes()
    ingest_all(revisions="*", progress=notes)
    assert loads == ["step0", "step10", "final"]
    assert notes.lines == ["no step is known of final: their names tell none; --steps can"]


def test_a_dry_run_plans_what_is_not_there_and_writes_nothing(ingest_all, filled, tree, loads):
    ingest_all(revisions="step10")
    loads.clear()
    before = tree(filled)
    lines = [each.describe().splitlines()[0] for each in ingest_all(dry_run=True).outcomes]
    assert [line.split(": ")[-1].split("; ")[-1].split(" of ")[-1] for line in lines] == [
        "trained step0 would be made", "already in the store, nothing done", "trained step2000 would be made",
    ]  # fmt: skip
    assert loads == ["step0", "step2000"]
    assert tree(filled) == before


def test_the_fingerprint_of_a_folder_is_of_names_sizes_and_times_of_change(tmp_path):
    def fingerprint():
        return source.Source(str(tmp_path), "m", {}, is_local=True).fingerprint()

    (tmp_path / "a").write_text("one")
    os.utime(tmp_path / "a", (1, 1))
    seen = [fingerprint()]
    (tmp_path / "a").write_text("three")
    os.utime(tmp_path / "a", (1, 1))
    seen.append(fingerprint())
    os.utime(tmp_path / "a", (1, 2))
    seen.append(fingerprint())
    (tmp_path / "a").rename(tmp_path / "b")
    seen.append(fingerprint())
    assert len(set(seen)) == 4
    (tmp_path / "step1").mkdir()
    (tmp_path / "step1" / "weights").write_text("of another checkpoint")
    assert fingerprint() == seen[-1]


def test_the_fingerprint_of_a_gguf_file_is_its_own(tmp_path):
    (tmp_path / "a.gguf").write_text("one")
    before = source.locate(str(tmp_path / "a.gguf"), None).fingerprint()
    (tmp_path / "b.gguf").write_text("another")
    assert source.locate(str(tmp_path / "a.gguf"), None).fingerprint() == before
    (tmp_path / "a.gguf").write_text("longer")
    assert source.locate(str(tmp_path / "a.gguf"), None).fingerprint() != before


def listed(monkeypatch, branches=(), tags=()):
    def refs(*pairs):
        return [huggingface_hub.hf_api.GitRefInfo(name=name, ref=name, target_commit=commit) for name, commit in pairs]

    found = huggingface_hub.hf_api.GitRefs(branches=refs(*branches), converts=[], tags=refs(*tags))
    monkeypatch.setattr(source.HfApi, "list_repo_refs", lambda *_: found)


def test_the_revisions_of_a_hub_model_are_its_branches_and_tags(monkeypatch):
    listed(
        monkeypatch, branches=[("main", "c9"), ("step1", "c1"), ("step0", "c0")], tags=[("step0", "t0"), ("v1", "t1")]
    )
    assert choose_checkpoints("nobody/model", ["step*"], None) == (
        Checkpoint("step0", 0, "hub", "c0"),
        Checkpoint("step1", 1, "hub", "c1"),
    )
    assert [each.revision for each in choose_checkpoints("nobody/model", None, None)] == [
        "step0",
        "step1",
        "main",
        "v1",
    ]
    assert choose_checkpoints("nobody/model", None, {"main": 9, "a1b2": 8}) == (
        Checkpoint("a1b2", 8, "file", None),
        Checkpoint("main", 9, "file", "c9"),
    )


def test_a_hub_revision_is_skipped_by_its_commit(monkeypatch, filled, trained, tmp_path, loads, read_rows):
    # The hub's cache as it is after two revisions were fetched.
    repository, commits = tmp_path / "cache" / "models--nobody--model", {"step0": "a" * 40, "step10": "b" * 40}
    (repository / "refs").mkdir(parents=True)
    for revision, commit in commits.items():
        shutil.copytree(trained / revision, repository / "snapshots" / commit)
        (repository / "refs" / revision).write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    listed(monkeypatch, branches=list(commits.items()))
    first = ingest_series("nobody/model", corpus="test", store=filled.path)
    assert [each.is_new for each in first.outcomes] == [True, True]
    assert {row["source"] for row in read_rows(filled, "checkpoints")} == {"hub"}
    loads.clear()
    listed(monkeypatch, branches=[("step0", "a" * 40), ("step10", "moved")])
    again = ingest_series("nobody/model", corpus="test", store=filled.path)
    assert [each.is_new for each in again.outcomes] == [False, False]
    assert loads == ["step10"]


@pytest.mark.parametrize("error", [OfflineModeIsEnabled("offline"), source._HTTP_ERROR("nobody answers")])
def test_a_hub_that_lists_nothing_is_one_clear_line(monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(source.HfApi, "list_repo_refs", refuse)
    with pytest.raises(IngestError, match=r"cannot list the revisions of model 'nobody/model' .*: (offline|nobody)"):
        choose_checkpoints("nobody/model", ["step*"], None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "revision,step\nstep0,0\nlast,143000\n"),
        ("b.csv", "\ufeffloss,step,revision\n3.1, 0,step0\n2.0,143000,last\n"),
        ("c.json", '{"step0": 0, "last": 143000}'),
    ],
)
def test_steps_are_read_from_csv_or_json(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_steps(tmp_path / name) == {"step0": 0, "last": 143_000}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,step\nx,1\n", "it has no column revision; there are: name, step"),
        ("a.csv", "", "it has no column revision"),
        ("a.csv", "revision,step\n", "names no revision"),
        ("a.csv", "revision,step\nx,1.5\n", "revision 'x' has step '1.5', which is no whole number"),
        ("a.csv", "revision,step\nx\n", "revision 'x' has step '', which"),
        ("a.csv", "revision,step\n,1\n", "step 1 has no revision"),
        ("a.csv", "revision,step\nx,1\nx,2\n", "revision 'x' has two steps, 1 and 2"),
        ("a.json", '{"x": 1, "x": 2}', "revision 'x' has two steps, 1 and 2"),
        ("a.json", '{"x": true}', "revision 'x' has step True"),
        ("a.json", '{"x": -1}', "revision 'x' has step -1"),
        ("a.json", '[["x", 1]]', "it is no JSON object of steps by revision"),
        ("a.json", "{", "cannot read the steps in"),
        ("missing.csv", None, "No such file"),
    ],
)
def test_steps_that_cannot_be_read_are_one_clear_line(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(IngestError) as caught:
        read_steps(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "steps",
    [
        PYTHIA,
        ROOT_OF_TWO,
        [],
        [5],
        [0, 1000],
        [0, 1000, 3000],
        [0, 5000, 6000, 7000],  # the first gap has one neighbour
        [2, 3, 5, 6],  # 2.4, 3.45, 4.55, 5.7
        [10, 20, 50, 100, 200, 500, 1000],
    ],
)
def test_a_whole_series_lacks_no_step(steps):
    assert missing_steps(steps) == ()


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ([0, 1000, 2000, 4000, 5000], (3000,)),
        ([5000, 0, 2000, 1000, 4000, 4000], (3000,)),
        ([0, 10, 20, 60, 70, 90, 100], (30, 40, 50, 80)),
        ([step for step in PYTHIA if step not in (64, 3000, 70_000, 71_000)], (64, 3000, 70_000, 71_000)),
        ([step for step in ROOT_OF_TWO if step != 23], (23,)),
        ([1, 2, 4, 8, 64, 128, 256], (16, 32)),
    ],
)
def test_steps_that_the_rhythm_of_their_neighbours_asks_for_are_missing(steps, missing):
    assert missing_steps(steps) == missing
