"""`neuronlake ingest`: what it prints, and what is said about models, settings and stores that do not serve."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from neuronlake.ingest.jobs import sinks


def shown(value):
    """Return a test's id: the arguments, not the message."""
    return " ".join(value) if isinstance(value, tuple) else ""


@pytest.fixture(scope="module")
def altered(bert, tmp_path_factory):
    """Return a function that copies the model and alters its weights."""
    from safetensors.torch import load_file, save_file

    def make(name, alter):
        folder = shutil.copytree(bert, tmp_path_factory.mktemp("altered") / name)
        tensors = load_file(folder / "model.safetensors")
        alter(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


@pytest.fixture
def runs(succeeds, store):
    """Return a function that asks for columns of the store's runs, sorted."""

    def ask(columns):
        rows = json.loads(
            succeeds("--store", store, "sql", f"select {columns} from runs order by all", "--format", "json")
        )
        return [tuple(row.values()) for row in rows]

    return ask


def test_a_run_is_told_in_one_line_and_its_progress_beside_it(neuronlake, store, bert):
    result = neuronlake("--store", store, "ingest", bert, "--corpus", "words", "--name", "mine", "--layers", "1")
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    assert "mine main, 64 neurons in 1 layer x 2 functions over 9 instances" in line
    note, *phases = (line.partition(":")[0] for line in result.stderr.splitlines())
    assert note.startswith("2 of 2 functions have fewer than 5 positives or negatives in a half")
    assert phases == ["forward", "scoring", "next"]


def test_ingesting_again_does_nothing_and_says_so(succeeds, store, bert, contents):
    before = contents(store)
    said = succeeds("--store", store, "ingest", bert, "--corpus", "words")
    assert said.endswith("; already in the store, nothing done\n")
    assert contents(store) == before


def test_a_dry_run_prints_the_plan_and_writes_nothing(succeeds, store, tiny_model, contents):
    before = contents(store), sorted(store.rglob("*"))
    said = succeeds("--store", store, "ingest", tiny_model("llama"), "--corpus", "words", "--dry-run")
    assert (contents(store), sorted(store.rglob("*"))) == before
    first, *rest = said.splitlines()
    assert first.endswith("would be made")
    text = "\n".join(rest)
    assert "128 neurons in 2 layers x 2 functions over 9 instances of 9 texts" in text
    assert "256 neuron_functions, 128 neurons, up to 1,024 top_instances" in text
    for word in ("parquet", "activations", "forward pass", "on disk"):
        assert word in text


def test_a_dry_run_of_what_is_there_says_so(succeeds, store, bert):
    said = succeeds("--store", store, "ingest", bert, "--corpus", "words", "--dry-run")
    assert "is already in the store: nothing would be done" in said


def test_two_revisions_are_two_subfolders_and_two_runs_with_steps(succeeds, store, bert, altered, tmp_path, runs):
    def move(tensors):
        tensors["encoder.layer.0.intermediate.dense.bias"] += 0.1

    folder = tmp_path / "trained"
    shutil.copytree(bert, folder / "step0")
    shutil.copytree(altered("later", move), folder / "step1000")
    revisions = ("--revision", "step0", "--revision", "step1000")
    said = succeeds("--store", store, "ingest", folder, "--corpus", "words", *revisions)
    assert [line.split(",")[0].split(": ")[1] for line in said.splitlines()] == ["trained step0", "trained step1000"]
    assert runs("model, revision, step")[-2:] == [("trained", "step0", 0), ("trained", "step1000", 1000)]


def test_random_initialisations_are_runs_by_seed(succeeds, store, bert, runs):
    succeeds("--store", store, "ingest", bert, "--corpus", "words", "--random-init", "0", "--random-init", "7")
    assert runs("revision, step, seed, is_random_init") == [
        ("main", None, None, False),
        ("random-0", 0, 0, True),
        ("random-7", 0, 7, True),
    ]


def test_settings_are_what_the_run_says(succeeds, store, tiny_model, runs):
    succeeds(
        *("--store", store, "ingest", tiny_model("llama"), "--corpus", "words", "--name", "small"),
        *("--layers", "0", "--pooling", "abs_max", "--special-tokens", "keep", "--min-instances", "1"),
        *("--dtype", "bfloat16", "--storage", "float16"),
        *("--max-tokens", "5", "--top", "2", "--batch-tokens", "16", "--memory", "64KB", "--device", "cpu"),
    )
    columns = "model, pooling, special_tokens, halves, min_instances, dtype, storage, max_tokens, layers, device"
    assert runs(columns)[0] == ("small", "abs_max", "keep", "text", 1, "bfloat16", "float16", 5, "0", "cpu")
    query = "select distinct layer, rank from top_instances where model = 'small' order by all"
    assert succeeds("--store", store, "sql", query, "--format", "csv").splitlines() == ["layer,rank", "0,1", "0,2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layers", "x"), "'x' is not a list of layers such as 0,3-5"),
        (("--layers", ""), "'' is not a list of layers"),
        (("--layers", "3-1"), "'3-1' is not a list of layers"),
        (("--memory", "x"), "'x' is not a size such as 4GB or 512MB"),
        (("--memory", "0"), "'0' is not a size"),
        (("--memory", "-1GB"), "'-1GB' is not a size"),
        (("--memory", "inf"), "'inf' is not a size"),
        (("--pooling", "median"), "'median' is not one of"),
        (("--special-tokens", "all"), "'all' is not one of"),
        (("--halves", "sense"), "'sense' is not one of"),
        (("--min-instances", "-1"), "-1 is not in the range x>=0"),
        (("--random-init", "x"), "'x' is not a valid integer"),
        (("--random-init", str(2**64)), "--random-init"),
        (("--max-tokens", "1"), "1 is not in the range"),
    ],
    ids=shown,
)  # fmt: skip
def test_settings_that_mean_nothing_are_wrong_usage(is_usage_error, made_store, bert, contents, arguments, message):
    before = contents(made_store)
    assert message in is_usage_error("--store", made_store, "ingest", bert, "--corpus", "words", *arguments)
    assert contents(made_store) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layers", "99"), "no layer [99]; the model has feed-forward layers 0 to 1"),
        (("--device", "abacus"), "does not load on device abacus"),
        (("--device", "meta"), "device meta"),
        (("--revision", "step1"), "no revision 'step1' in the folder"),
        (("--corpus", "wrds"), "no corpus 'wrds'"),
        (("--halves", "word"), "halves by word need spans, and corpus words has whole texts alone"),
        (("--min-instances", "99"), "99 positives and negatives in each half, as --min-instances asks; the most that"),
    ],
    ids=shown,
)
def test_what_the_model_or_store_has_not_is_one_clear_line(fails, made_store, bert, contents, arguments, message):
    before = contents(made_store)
    assert message in fails("--store", made_store, "ingest", bert, "--corpus", "words", *arguments)
    assert contents(made_store) == before


def test_a_gpu_that_is_not_there_is_one_clear_line(fails, made_store, bert):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    line = fails("--store", made_store, "ingest", bert, "--corpus", "words", "--device", "cuda")
    assert line.startswith("model tiny-bert does not load on device cuda: ")


@pytest.mark.parametrize("model", ["nobody/no-such-model", "no-such-model", "./no-such-model", "no-such-model.gguf"])
def test_a_model_that_is_not_there_is_one_clear_line(fails, store, contents, model):
    before = contents(store)
    assert model in fails("--store", store, "ingest", model, "--corpus", "words")
    assert contents(store) == before


def test_a_folder_that_is_no_model_is_one_clear_line(fails, store, contents):
    before = contents(store)
    Path("plain").mkdir()
    (Path("plain") / "notes.txt").write_text("not a model")
    assert fails("--store", store, "ingest", "plain", "--corpus", "words").startswith("cannot load model 'plain'")
    assert contents(store) == before


def test_weights_that_are_not_numbers_are_named(fails, store, altered, contents):
    def spoil(tensors):
        tensors["encoder.layer.0.output.dense.weight"][0, 0] = float("nan")

    before = contents(store)
    line = fails("--store", store, "ingest", altered("spoilt", spoil), "--corpus", "words")
    assert line == "model spoilt: weight encoder.layer.0.output.dense.weight holds NaN or infinite values"
    assert contents(store) == before


def test_weights_cut_short_are_one_clear_line(fails, store, bert, tmp_path, contents):
    before = contents(store)
    weights = shutil.copytree(bert, tmp_path / "cut") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot load the weights of model" in fails(
        "--store", store, "ingest", tmp_path / "cut", "--corpus", "words"
    )
    assert contents(store) == before


@pytest.mark.slow
def test_weights_that_are_missing_are_one_clear_line_and_no_report_beside_it(python, made_store, altered):
    def lose(tensors):
        del tensors["encoder.layer.0.output.dense.weight"]

    # In a process of its own: transformers writes its report to the standard error it first saw.
    folder = altered("lost", lose)
    process = python("-m", "neuronlake", "--store", str(made_store), "ingest", str(folder), "--corpus", "words")
    assert (process.returncode, process.stdout) == (1, "")
    assert "lacks 1 weights of BertModel, encoder.layer.0.output.dense.weight the first" in process.stderr
    assert process.stderr.count("\n") == 1


def test_a_corpus_is_needed_before_a_store_is_made(fails, bert):
    assert fails("ingest", bert, "--corpus", "words").startswith("no corpus 'words' in neuronlake-store")
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "stopped"), (signal.SIGTERM, "terminated")])
def test_a_job_that_is_stopped_says_what_is_kept_and_leaves_the_store_as_it_was(
    neuronlake, store, tiny_model, monkeypatch, contents, number, word
):
    before = contents(store)
    write_part = sinks.ScoreTables.write_part

    def write_one_and_interrupt(*arguments):
        write_part(*arguments)
        signal.raise_signal(number)

    monkeypatch.setattr(sinks, "PART_ROWS", 1)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(sinks.ScoreTables, "write_part", write_one_and_interrupt)
        result = neuronlake("--store", store, "ingest", tiny_model("gpt2"), "--corpus", "words")
    assert isinstance(result.exception, SystemExit)
    assert (result.exit_code, result.stdout) == (128 + number, "")
    assert result.stderr.splitlines()[-1] == f"{word}: 100% of the forward pass is kept; the same command goes on"
    assert "Traceback" not in result.stderr
    assert contents(store) == before
    assert neuronlake("--store", store, "check").exit_code == 0

    again = neuronlake("--store", store, "ingest", tiny_model("gpt2"), "--corpus", "words")
    assert (again.exit_code, "already" in again.stdout) == (0, False)
    assert list((store / ".staging").glob("*/")) == []


def test_a_revision_that_fails_is_told_and_leaves_the_others_committed(neuronlake, store, bert, tmp_path, runs):
    for revision in ("step0", "step20"):
        shutil.copytree(bert, tmp_path / "trained" / revision)
    revisions = ("--revision", "step0", "--revision", "step9", "--revision", "step20")
    result = neuronlake("--store", store, "ingest", tmp_path / "trained", "--corpus", "words", *revisions)
    assert result.exit_code == 1
    assert result.stderr.count("revision step9: no revision 'step9'") == 1
    assert result.stderr.splitlines()[-1] == "Error: 1 of 3 revisions failed: step9"
    assert [line.split(",")[0].split(": ")[1] for line in result.stdout.splitlines()] == [
        "trained step0", "trained step20",
    ]  # fmt: skip
    assert runs("model, revision")[-2:] == [("trained", "step0"), ("trained", "step20")]


def test_a_series_is_one_command_that_goes_on_where_it_was(neuronlake, store, bert, tmp_path, runs):
    folder = tmp_path / "trained"
    for revision in ("step0", "step20", "step100"):
        shutil.copytree(bert, folder / revision)
    weights = folder / "step20" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    command = ("--store", store, "ingest", folder, "--corpus", "words", "--revisions", "step*")
    result = neuronlake(*command)
    assert result.exit_code == 1
    assert result.stdout.count("\n") == 2
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("revision "))
    assert line.startswith("revision step20: cannot load the weights of model")
    assert result.stderr.splitlines()[-1] == "Error: 1 of 3 revisions failed: step20"

    weights.write_bytes(whole)
    again = neuronlake(*command)
    assert again.exit_code == 0
    # What the store holds is told first.
    assert [line.endswith("; already in the store, nothing done") for line in again.stdout.splitlines()] == [
        True, True, False,
    ]  # fmt: skip
    assert [row[1:] for row in sorted(runs("model, revision, step")) if row[0] == "trained"] == [
        ("step0", 0), ("step100", 100), ("step20", 20),
    ]  # fmt: skip


def test_twins_and_mixed_shards_of_a_series_are_flagged(succeeds, store, bert, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "trained"
    start = load_file(bert / "model.safetensors")
    # Position ids, say, are the same in every checkpoint; all else is trained.
    weights = {step: {name: values * (1 + step / 100) for name, values in start.items()} for step in (1, 2, 4)}
    for each in weights.values():
        each["embeddings.token_type_embeddings.weight"] = start["embeddings.token_type_embeddings.weight"]
    weights[3] = {name: weights[1 if "layer.0" in name else 2][name] * 1.0 for name in start}
    weights[5] = weights[4]
    for step, tensors in weights.items():
        copied = shutil.copytree(bert, folder / f"step{step}")
        save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    succeeds("--store", store, "ingest", folder, "--corpus", "words", "--revisions", "step*")
    query = (
        "select step, twin_step, kind, share_equal < 1 from checkpoint_identity where model = 'trained' order by all"
    )
    assert succeeds("--store", store, "sql", query, "--format", "csv").splitlines()[1:] == [
        "1,3,mixed,true",
        "2,3,mixed,true",
        "3,1,mixed,true",
        "3,2,mixed,true",
        "4,5,identical,false",
        "5,4,identical,false",
    ]


def test_steps_are_read_from_a_file(neuronlake, store, bert, tmp_path, runs):
    shutil.copytree(bert, tmp_path / "trained" / "early")
    (tmp_path / "steps.csv").write_text("revision,step\nearly,7\n")
    result = neuronlake(
        *("--store", store, "ingest", tmp_path / "trained", "--corpus", "words", "--steps", tmp_path / "steps.csv")
    )
    assert result.exit_code == 0
    assert ("trained", "early", 7) in runs("model, revision, step")


def test_random_initialisation_beside_a_revision_says_how_it_is_asked_for(neuronlake, store, bert, tmp_path):
    folder = tmp_path / "trained"
    shutil.copytree(bert, folder / "step0")
    arguments = ("--corpus", "words", "--revision", "step0", "--random-init", "0")
    result = neuronlake("--store", store, "ingest", folder, *arguments)
    assert f"ingest {folder / 'step0'} --random-init 0 --name trained" in result.stderr
    assert "choose with --revision" not in result.stderr
    assert result.stderr.splitlines()[-1] == "Error: 1 of 2 revisions failed: random-0"


def test_a_series_is_planned_without_writing(succeeds, made_store, bert, tmp_path, contents):
    shutil.copytree(bert, tmp_path / "trained" / "step0")
    before = contents(made_store)
    said = succeeds(
        *("--store", made_store, "ingest", tmp_path / "trained", "--corpus", "words", "--revisions", "*", "--dry-run")
    )
    assert said.splitlines()[0].endswith("of trained step0 would be made")
    assert contents(made_store) == before


def test_a_pattern_that_nothing_matches_says_what_there_is(fails, made_store, bert, tmp_path, contents):
    shutil.copytree(bert, tmp_path / "trained" / "step0")
    before = contents(made_store)
    arguments = ("--corpus", "words", "--revisions", "epoch*")
    line = fails("--store", made_store, "ingest", tmp_path / "trained", *arguments)
    assert line == f"no revision 'epoch*' in {tmp_path / 'trained'}; available: step0"
    assert contents(made_store) == before


def test_a_series_takes_no_single_revisions_beside_it(is_usage_error, made_store, bert):
    arguments = ("--corpus", "words", "--revisions", "*", "--random-init", "1")
    line = is_usage_error("--store", made_store, "ingest", bert, *arguments)
    assert line == "--revisions and --steps choose revisions; they take no --revision or --random-init"
