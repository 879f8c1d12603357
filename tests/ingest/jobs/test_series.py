"""Series of checkpoints: which are measured and recorded, what fails alone, and what is not loaded again."""

import json
import shutil

import huggingface_hub
import pytest

from neuronlake.errors import IngestError, StoreError, UnknownNameError
from neuronlake.ingest.jobs import measurement
from neuronlake.ingest.jobs.job import ingest_series
from neuronlake.ingest.jobs.reports import Failure
from neuronlake.ingest.jobs.settings import Coactivation, Resources, Settings
from neuronlake.schema import card, leftovers


def weights_of(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def save_weights(folder, tensors):
    from safetensors.torch import save_file

    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def fails(report):
    return [(each.revision, each.reason) for each in report.failures]


def test_every_matching_subfolder_is_measured_in_order_of_steps(ingest_all, loads, filled, read_rows):
    reported = []
    report = ingest_all(tell=reported.append)
    assert loads == ["step0", "step10", "step2000"]
    assert [(each.revision, each.is_new) for each in report.outcomes] == [
        ("step0", True), ("step10", True), ("step2000", True),
    ]  # fmt: skip
    assert tuple(reported) == report.outcomes
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
    added, again = (ingest_all(revisions="step0", coactivation=Coactivation()).outcomes[0] for _ in range(2))
    assert (added.is_new, added.adds_coactivations) == (False, True)
    assert (again.is_new, again.adds_coactivations, again.activity) == (False, False, "positive")
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


def test_the_same_command_heals_a_store_whose_list_of_checkpoints_was_killed_in_its_commit(
    ingest_all, filled, monkeypatch
):
    with monkeypatch.context() as patch:
        # All that a kill leaves: moved files, and the folder of the job.
        patch.setattr(leftovers, "remove", lambda store: ())
        patch.setattr(card, "text", lambda commits: {}["killed"])
        with pytest.raises(KeyError):
            ingest_all(steps={"gone": 5}, revisions=None)
    assert [problem.what for problem in filled.check()] == ["in no commit, and so invisible to queries"]
    ingest_all(steps={"gone": 5}, revisions=None)
    assert (filled.check(), filled.unfinished()) == ((), {})
    assert len(filled.files("checkpoints")) == 1


@pytest.mark.parametrize("name", ["x.parquet", "x" * 300, "a\udcff", "a\nb", "."])
def test_a_name_that_no_store_can_hold_is_refused_before_anything_is_loaded(ingest_all, filled, tree, loads, name):
    before = tree(filled)
    with pytest.raises(StoreError, match="cannot be stored under this name"):
        ingest_all(name=name)
    assert (tree(filled), loads) == (before, [])


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


def test_a_link_to_nowhere_is_attempted_and_a_file_is_not(ingest_all, series):
    (series / "step11").symlink_to(series / "moved")
    (series / "step12").write_text("a file")
    report = ingest_all(revisions="step1*")
    assert [each.revision for each in report.outcomes] == ["step10", "step11"]
    assert fails(report) == [
        ("step11", f"cannot load model '{series}': step11 links to {series / 'moved'}, which does not exist")
    ]


def test_a_file_that_is_asked_for_as_a_revision_is_called_one(ingest_all, series):
    (series / "step11").write_text("a file")
    with pytest.raises(IngestError, match=r"^no revision 'step11' in .*trained: step11 is a file, not a folder$"):
        ingest_all(revisions="step11")
    ((_, reason),) = fails(ingest_all(steps={"step11": 11}, revisions=None))
    assert reason == f"cannot load model '{series}': step11 is a file, not a folder"


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


def test_an_optimizer_state_that_is_deleted_makes_nothing_load_again(ingest_all, series, loads):
    (series / "step10" / "optimizer.pt").write_bytes(b"state")
    ingest_all(revisions="step10")
    (series / "step10" / "optimizer.pt").unlink()
    loads.clear()
    assert [each.is_new for each in ingest_all(revisions="step10").outcomes] == [False]
    assert loads == []


def list_branches(monkeypatch, commits):
    branches = [
        huggingface_hub.hf_api.GitRefInfo(name=name, ref=name, target_commit=each) for name, each in commits.items()
    ]
    found = huggingface_hub.hf_api.GitRefs(branches=branches, converts=[], tags=[])
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_refs", lambda *_: found)


def test_a_hub_revision_is_skipped_by_its_commit(monkeypatch, filled, trained, tmp_path, loads, read_rows):
    # The hub's cache as it is after two revisions were fetched.
    repository, commits = tmp_path / "cache" / "models--nobody--model", {"step0": "a" * 40, "step10": "b" * 40}
    (repository / "refs").mkdir(parents=True)
    for revision, commit in commits.items():
        shutil.copytree(trained / revision, repository / "snapshots" / commit)
        (repository / "refs" / revision).write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    list_branches(monkeypatch, commits)
    first = ingest_series("nobody/model", corpus="test", store=filled.path)
    assert [each.is_new for each in first.outcomes] == [True, True]
    assert {row["source"] for row in read_rows(filled, "checkpoints")} == {"hub"}
    loads.clear()
    list_branches(monkeypatch, commits | {"step10": "moved"})
    again = ingest_series("nobody/model", corpus="test", store=filled.path)
    assert [each.is_new for each in again.outcomes] == [False, False]
    assert loads == ["step10"]
