"""Which revisions are a series: patterns, steps from a file, steps that are missing, what tells a changed folder."""

import os

import huggingface_hub.hf_api
import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from neuronlake.errors import IngestError
from neuronlake.ingest.jobs.revisions import ListedCheckpoint, choose_checkpoints
from neuronlake.ingest.models.checkpoint import Checkpoint, Source
from neuronlake.ingest.models.steps import gaps, read_steps

PYTHIA = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 144_000, 1000)]
ROOT_OF_TWO = [0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256]


def listed(monkeypatch, branches=(), tags=()):
    def refs(*pairs):
        return [huggingface_hub.hf_api.GitRefInfo(name=name, ref=name, target_commit=commit) for name, commit in pairs]

    found = huggingface_hub.hf_api.GitRefs(branches=refs(*branches), converts=[], tags=refs(*tags))
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_refs", lambda *_: found)


def test_the_revisions_of_a_hub_model_are_its_branches_and_tags(monkeypatch):
    listed(
        monkeypatch, branches=[("main", "c9"), ("step1", "c1"), ("step0", "c0")], tags=[("step0", "t0"), ("v1", "t1")]
    )
    assert choose_checkpoints("nobody/model", ["step*"], None) == (
        ListedCheckpoint("step0", 0, "hub", "c0"),
        ListedCheckpoint("step1", 1, "hub", "c1"),
    )
    assert [each.revision for each in choose_checkpoints("nobody/model", None, None)] == [
        "step0",
        "step1",
        "main",
        "v1",
    ]
    assert choose_checkpoints("nobody/model", None, {"main": 9, "a1b2": 8}) == (
        ListedCheckpoint("a1b2", 8, "file", None),
        ListedCheckpoint("main", 9, "file", "c9"),
    )


@pytest.mark.parametrize("error", [OfflineModeIsEnabled("offline"), HfHubHTTPError.__mro__[1]("nobody answers")])
def test_a_hub_that_lists_nothing_is_one_clear_line(monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_refs", refuse)
    with pytest.raises(IngestError, match=r"cannot list the revisions of model 'nobody/model' .*: (offline|nobody)"):
        choose_checkpoints("nobody/model", ["step*"], None)


def test_a_file_has_no_revisions(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"")
    with pytest.raises(IngestError, match=r"model\.gguf is one file and has no revisions"):
        choose_checkpoints(str(tmp_path / "model.gguf"), None, None)


def test_the_fingerprint_of_a_folder_is_of_names_sizes_and_times_of_change(tmp_path):
    def fingerprint():
        return Source(str(tmp_path), "m", {}, is_local=True).fingerprint()

    file = tmp_path / "a.json"
    file.write_text("one")
    os.utime(file, (1, 1))
    seen = [fingerprint()]
    file.write_text("three")
    os.utime(file, (1, 1))
    seen.append(fingerprint())
    os.utime(file, (1, 2))
    seen.append(fingerprint())
    file.rename(tmp_path / "b.json")
    seen.append(fingerprint())
    assert len(set(seen)) == 4
    (tmp_path / "step1").mkdir()
    (tmp_path / "step1" / "model.safetensors").write_text("of another checkpoint")
    assert fingerprint() == seen[-1]


@pytest.mark.parametrize(
    ("name", "is_read"),
    [
        ("config.json", True),
        ("model-00001-of-00002.safetensors", True),
        ("pytorch_model.bin", True),
        ("spiece.model", True),
        ("vocab.txt", True),
        ("modeling_own.py", True),
        ("chat_template.jinja", True),
        ("trainer_state.json", False),
        ("all_results.json", False),
        ("training_args.bin", False),
        ("optimizer.bin", False),
        ("optimizer.pt", False),
        ("rng_state_0.pth", False),
        ("train.log", False),
        ("README.md", False),
        (".gitattributes", False),
    ],
)
def test_the_fingerprint_of_a_folder_is_of_what_loading_reads(tmp_path, name, is_read):
    folder = Source(str(tmp_path), "m", {}, is_local=True)
    before = folder.fingerprint()
    (tmp_path / name).write_text("new")
    assert (folder.fingerprint() != before) == is_read


def test_the_fingerprint_of_a_gguf_file_is_its_own(tmp_path):
    (tmp_path / "a.gguf").write_text("one")
    before = Checkpoint(str(tmp_path / "a.gguf")).locate().fingerprint()
    (tmp_path / "b.gguf").write_text("another")
    assert Checkpoint(str(tmp_path / "a.gguf")).locate().fingerprint() == before
    (tmp_path / "a.gguf").write_text("longer")
    assert Checkpoint(str(tmp_path / "a.gguf")).locate().fingerprint() != before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "revision,step\nstep0,0\nlast,143000\n"),
        ("b.csv", "\ufeffloss,step,revision\n3.1, 0,step0\n2.0,143000,last\n"),
        ("c.json", '{"step0": 0, "last": 143000}'),
        ("d.csv", "\n revision , step\nstep0 , 0\n\n last,143000,more\n"),
    ],
)
def test_steps_are_read_from_csv_or_json(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_steps(tmp_path / name) == {"step0": 0, "last": 143_000}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,step\nx,1\n", "it has no column revision; there are: name, step"),
        ("a.csv", "", "a.csv: it is empty"),
        ("a.json", "\n", "a.json: it is empty"),
        ("a.csv", "revision,step\nx,9223372036854775808\n", "revision 'x' has step 9223372036854775808, which is no"),
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
    assert not list(gaps(steps))


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
    assert [step for gap, _ in gaps(steps) for step in gap] == list(missing)
