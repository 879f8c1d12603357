"""Training steps of a series: where they come from, what corrects them, and what is noted of them."""

import shutil

from neuronlake.ingest.jobs.job import ingest_series
from neuronlake.ingest.jobs.settings import Settings
from neuronlake.progress import SilentProgress


class Notes(SilentProgress):
    """Remembers the notes, for each checkpoint and before them."""

    def __init__(self):
        self.lines = []

    def __call__(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def note(self, text):
        # Of the others are `test_clusters` and `test_min_instances`.
        if not text.startswith("labels go by") and "functions have fewer than 5" not in text:
            self.lines.append(text)


def fails(report):
    return [(each.revision, each.reason) for each in report.failures]


def test_steps_come_from_the_mapping_before_the_name(ingest_all, filled, read_rows, loads):
    report = ingest_all(revisions=None, steps={"step0": 500, "step10": 3, "gone": 7})
    assert [each.revision for each in report.outcomes] == ["step10", "gone", "step0"]
    assert report.describe() == "1 of 3 revisions failed: gone"
    assert loads == ["step10", "step0"]
    assert [(row["revision"], row["step"]) for row in read_rows(filled, "runs")] == [("step10", 3), ("step0", 500)]
    assert {row["source"] for row in read_rows(filled, "checkpoints")} == {"file"}


def test_a_step_that_a_run_holds_stays(ingest_all, filled, read_rows, tree):
    run_id = ingest_all(steps={"step10": 3}, revisions=None).outcomes[0].run_id
    before = tree(filled)
    ((revision, reason),) = fails(ingest_all(steps={"step10": 4}, revisions=None))
    assert (revision, reason) == (
        "step10",
        f"it cannot be step 4 of trained: run {run_id} in {filled.path} has it at step 3; measure the series under "
        "another --name",
    )
    assert tree(filled) == before
    ingest_all(revisions="step10", settings=Settings(pooling="mean"))
    assert [row["step"] for row in read_rows(filled, "runs")] == [3, 3]


def test_a_run_without_a_step_refuses_one_for_its_revision_alone(ingest_all, filled, series, read_rows):
    (series / "step2000").rename(series / "final")
    run_id = ingest_all(revisions="final").outcomes[0].run_id
    report = ingest_all(steps={"final": 3000, "step10": 20}, revisions="*")
    assert fails(report) == [
        (
            "final",
            f"it cannot be step 3000 of trained: run {run_id} in {filled.path} has it without a step; measure the "
            "series under another --name",
        )
    ]
    assert [(row["revision"], row["step"]) for row in read_rows(filled, "runs")] == [
        ("final", None), ("step0", 0), ("step10", 20),
    ]  # fmt: skip
    assert fails(ingest_all(steps={"final": 3000}, revisions=None, name="other")) == []


def test_a_step_that_is_listed_and_not_measured_can_be_corrected_and_corrected_back(ingest_all, filled, read_rows):
    for step in (5, 6, 5, 5):
        ingest_all(steps={"gone": step}, revisions=None)
    rows = sorted(read_rows(filled, "checkpoints"), key=lambda row: row["listed_at"])
    assert [(row["revision"], row["step"]) for row in rows] == [("gone", 5), ("gone", 6), ("gone", 5)]


def test_a_revision_measured_after_its_correction_has_the_step_last_listed(ingest_all, filled, series, read_rows):
    late = series / "step10"
    late.rename(series.parent / "late")
    for step in (5, 7):
        ingest_all(steps={"step10": step}, revisions=None)
    (series.parent / "late").rename(late)
    ingest_all(revisions="step10")
    assert [(row["revision"], row["step"]) for row in read_rows(filled, "runs")] == [("step10", 7)]


def test_what_looks_wrong_with_a_series_is_noted(ingest_all):
    notes = Notes()
    names = {f"r{step}": step for step in (0, 1000, 2000, 4000, 5000)}
    ingest_all(revisions=["step0", "r*", "m*"], steps={**names, "main": 6000}, progress=notes, dry_run=True)
    assert notes.lines == [
        "no step is given of step0: it is the one of the name, or that the store holds",
        "step 0 is of several revisions: r0, step0",
        "no checkpoint at step 3000, where steps are otherwise 1000 apart",
    ]


def test_revisions_without_a_step_are_measured_last_and_noted(ingest_all, series, loads):
    (series / "step2000").rename(series / "final")
    notes = Notes()
    ingest_all(revisions="*", progress=notes)
    assert loads == ["step0", "step10", "final"]
    assert notes.lines == ["no step is known of final: their names tell none; --steps can, before they are measured"]


def test_revisions_that_have_a_step_and_are_not_asked_for_are_noted(ingest_all):
    notes = Notes()
    ingest_all(revisions="step1*", steps={"step2000": 30, "step10": 20, "gone": 10}, progress=notes, dry_run=True)
    assert notes.lines == ["not measured, though a step is given: gone, step2000; --revisions leaves them out"]


def test_a_note_is_told_once_however_many_checkpoints_it_is_of(filled, tiny_model, tmp_path):
    for step in (0, 10):
        shutil.copytree(tiny_model("t5"), tmp_path / "run" / f"step{step}")
    notes = Notes()
    ingest_series(str(tmp_path / "run"), corpus="test", store=filled.path, progress=notes, dry_run=True)
    assert [line.partition(":")[0] for line in notes.lines] == ["run is an encoder-decoder"]
