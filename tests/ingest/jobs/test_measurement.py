"""A measurement: what defines it, what it would hold, and what cannot be measured."""

import json
import shutil

import numpy as np
import pytest

from neuronlake.errors import IngestError, NeuronlakeError, StoreError, UnknownNameError
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Resources, Settings


def test_a_subset_of_layers_holds_what_all_layers_hold_of_it(ingest, filled, read_rows):
    whole = ingest()
    part = ingest(settings=Settings(layers=(1,)))
    assert (part.n_layers, part.n_neurons) == (1, 64)
    (run,) = (row for row in read_rows(filled, "runs") if row["run_id"] == part.run_id)
    assert run["layers"] == "1"
    for table in ("neurons", "neuron_functions", "top_instances", "layers"):
        rows = read_rows(filled, table)
        expected = [row | {"run_id": ""} for row in rows if row["run_id"] == whole.run_id and row["layer"] == 1]
        assert [row | {"run_id": ""} for row in rows if row["run_id"] == part.run_id] == expected


@pytest.mark.parametrize(("layers", "unknown"), [((2,), r"\[2\]"), ((0, 7, 5), r"\[5, 7\]"), ((-1,), r"\[-1\]")])
def test_a_layer_the_model_has_not_is_refused(ingest, layers, unknown):
    with pytest.raises(IngestError, match=rf"no layer {unknown}; the model has feed-forward layers 0 to 1"):
        ingest(settings=Settings(layers=layers))


def test_no_layers_at_all_are_refused(ingest):
    with pytest.raises(IngestError, match="no layer"):
        ingest(settings=Settings(layers=()))


@pytest.fixture
def run_id(filled, tiny_model):
    def plan(kind="bert", **arguments):
        arguments |= {"corpus": "test", "store": filled.path, "dry_run": True}
        return ingest_model(str(tiny_model(kind)), **arguments).run_id

    return plan


def test_every_setting_has_a_run_id_of_its_own(run_id, filled, make_corpus, spans):
    make_corpus(filled, spans[:-1], name="shorter")
    settings = [
        Settings(),
        Settings(pooling="mean"),
        Settings(dtype="bfloat16"),
        Settings(storage="float16"),
        Settings(layers=(0,)),
        Settings(max_tokens=20),
        Settings(n_top=3),
    ]
    found = [run_id(settings=each) for each in settings]
    found += [run_id(name="another"), run_id(random_init=1), run_id(random_init=2), run_id("gpt2", name="tiny-bert")]
    assert len(set(found)) == len(found)
    assert all(len(each) == 16 for each in found)


def test_resources_do_not_enter_the_run_id(run_id):
    resources = [
        Resources(),
        Resources(device="cpu"),
        Resources(batch_tokens=7),
        Resources(memory_bytes=1),
    ]
    assert len({run_id(resources=each) for each in resources}) == 1


def test_a_limit_beyond_the_models_own_is_the_models_own(run_id):
    assert run_id(settings=Settings(max_tokens=64)) == run_id(settings=Settings(max_tokens=10_000))


def test_layers_asked_for_in_another_order_are_the_same_measurement(run_id):
    assert run_id(settings=Settings(layers=(0, 1))) == run_id(settings=Settings(layers=(1, 0, 1)))


def test_another_tokenizer_is_another_measurement(run_id, tiny_model, filled, tmp_path, tree):
    folder = shutil.copytree(tiny_model("bert"), tmp_path / "tiny-bert")
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isalpha())
    ids = [vocabulary[word] for word in words]
    vocabulary |= dict(zip(words, ids[1:] + ids[:1], strict=True))
    file.write_text(json.dumps(tokenizer))
    assert ingest_model(str(folder), corpus="test", store=filled.path, dry_run=True).run_id != run_id()


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_a_plan_writes_nothing_and_says_what_is_then_written(ingest, filled, tiny_model, read_rows, kind, tree):
    before = sorted(filled.path.rglob("*")), tree(filled)
    plan = ingest_model(str(tiny_model(kind)), corpus="test", store=filled.path, dry_run=True)
    assert (sorted(filled.path.rglob("*")), tree(filled)) == before
    report = ingest(kind)
    assert (plan.run_id, plan.is_new) == (report.run_id, True)
    for name in ("n_layers", "n_neurons", "n_functions", "n_instances", "n_truncated", "n_dropped"):
        assert getattr(plan, name) == getattr(report, name), name
    (run,) = read_rows(filled, "runs")
    assert (plan.n_texts, plan.n_tokens) == (run["n_texts"], run["n_tokens"])
    assert plan.forward_s > 0
    for table in ("neurons", "neuron_functions"):
        assert plan.n_rows[table] == len(read_rows(filled, table)), table
    # How many instances lie above a neuron's minimum is known only afterwards.
    assert plan.n_rows["top_instances"] >= len(read_rows(filled, "top_instances"))
    assert not ingest_model(str(tiny_model(kind)), corpus="test", store=filled.path, dry_run=True).is_new


def test_a_plan_of_few_instances_counts_no_more_top_instances_than_there_can_be(store, tiny_model, make_corpus, words):
    make_corpus(store, [Instance(f"the {word}", {"f/g": word == "song"}) for word in words[-4:]])
    plan = ingest_model(str(tiny_model("bert")), corpus="test", store=store.path, dry_run=True)
    assert plan.n_rows["top_instances"] <= 128 * 3


def test_a_plan_says_what_goes_to_disk(filled, tiny_model, spans):
    arguments = {"corpus": "test", "store": filled.path}
    plan = ingest_model(str(tiny_model("bert")), **arguments, dry_run=True)
    assert plan.activation_bytes == 128 * len(spans) * 4
    half = ingest_model(str(tiny_model("bert")), **arguments, settings=Settings(storage="float16"), dry_run=True)
    assert half.activation_bytes == plan.activation_bytes // 2


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Settings, "pooling", "median"),
        (Settings, "dtype", "int8"),
        (Settings, "storage", "bfloat16"),
        (Settings, "max_tokens", 0),
        (Settings, "n_top", -1),
        (Resources, "batch_tokens", -5),
        (Settings, "site", "residual"),
        (Settings, "router", "sometimes"),
    ],
)
def test_a_setting_out_of_its_choices_is_one_clear_line(kind, name, value):
    with pytest.raises(NeuronlakeError, match=name) as caught:
        kind(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("device", {"resources": Resources(device="abacus")}), ("revision", {"revision": "step1"})],
)
def test_a_device_or_revision_that_is_not_there_is_one_clear_line(ingest, filled, name, arguments, tree):
    before = tree(filled)
    with pytest.raises(NeuronlakeError, match=name) as caught:
        ingest(**arguments)
    assert "\n" not in str(caught.value)
    assert tree(filled) == before


def test_a_corpus_that_is_not_there_is_refused(filled, tiny_model):
    with pytest.raises(UnknownNameError, match=r"'tost' in .*; did you mean 'test'"):
        ingest_model(str(tiny_model("bert")), corpus="tost", store=filled.path)


def test_a_store_that_is_not_there_is_not_made(tmp_path, tiny_model):
    with pytest.raises(UnknownNameError, match="there are none"):
        ingest_model(str(tiny_model("bert")), corpus="test", store=tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_a_store_that_is_a_file_is_said_to_be_one(tmp_path, tiny_model):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is not a folder"):
        ingest_model(str(tiny_model("bert")), corpus="test", store=tmp_path / "file")


def test_a_corpus_whose_file_is_corrupt_is_named(filled, tiny_model):
    (path,) = filled.files("texts")
    path.write_bytes(b"not parquet")
    with pytest.raises(StoreError, match=f"cannot read .*{path.name}"):
        ingest_model(str(tiny_model("bert")), corpus="test", store=filled.path)


def test_a_function_left_with_one_class_by_the_cut_is_named(store, tiny_model, make_corpus, words):
    texts = [" ".join(words[index : index + 6]) for index in range(10)]
    instances = [Instance(text, {"f/g": False}, start=0, end=2) for text in texts]
    instances += [Instance(text, {"f/g": True}, start=len(text) - 2, end=len(text)) for text in texts]
    make_corpus(store, instances)
    with pytest.raises(IngestError, match=r"0 are positive and 10 negative for f/g; both are needed"):
        ingest_model(str(tiny_model("bert")), corpus="test", store=store.path, settings=Settings(max_tokens=4))


def test_texts_cut_and_instances_dropped_are_counted(store, tiny_model, make_corpus, read_rows, words):
    texts = [" ".join(words[index : index + 6]) for index in range(10)]
    instances = [Instance(text, {"f/g": index % 2 == 0}, start=0, end=2) for index, text in enumerate(texts)]
    instances += [Instance(texts[0], {"f/g": True}, start=len(texts[0]) - 2, end=len(texts[0]))]
    make_corpus(store, instances)
    report = ingest_model(str(tiny_model("bert")), corpus="test", store=store.path, settings=Settings(max_tokens=4))
    assert (report.n_instances, report.n_truncated, report.n_dropped) == (10, 10, 1)
    (run,) = read_rows(store, "runs")
    assert (run["n_truncated"], run["n_dropped"], run["n_tokens"]) == (10, 1, 40)


def test_texts_without_a_token_are_dropped_and_counted(store, tiny_model, make_corpus, tmp_path, tree):
    folder = shutil.copytree(tiny_model("bert"), tmp_path / "copy")
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": None}))
    texts = ["the cat sat", "the dog ran", "a bird", "\x07", "\x08"]
    make_corpus(store, [Instance(text, {"f/g": index % 2 == 0}) for index, text in enumerate(texts)])
    report = ingest_model(str(folder), corpus="test", store=store.path, resources=Resources(batch_tokens=1))
    assert (report.n_instances, report.n_dropped) == (3, 2)


def test_texts_as_long_as_the_position_table_of_roberta_are_cut_to_what_it_holds(
    store, tiny_model, make_corpus, read_rows, words
):
    # RoBERTa's 66 positions hold 64 tokens: they are counted from the padding token's index on.
    text = " ".join(["song", *words, *words, *words])
    make_corpus(store, [Instance(text, {"f/g": True}), Instance("the cat", {"f/g": False})])
    ingest_model(str(tiny_model("roberta")), corpus="test", store=store.path)
    (run,) = read_rows(store, "runs")
    assert run["max_tokens"] == 64


def test_a_model_that_runs_tokens_before_texts_is_measured_right_or_refused(
    filled, tiny_model, recompute, read_rows, spans
):
    try:
        ingest_model(str(tiny_model("xlnet")), corpus="test", store=filled.path)
    except IngestError:
        return
    expected = recompute(tiny_model("xlnet"), "xlnet", filled, spans, negatives="rest")
    rows = [row for row in read_rows(filled, "neurons") if row["layer"] == 0]
    found = [row["mean"] for row in sorted(rows, key=lambda row: row["neuron"])]
    np.testing.assert_allclose(found, expected.activations[0].mean(1), atol=1e-4)


def test_a_model_of_images_is_one_clear_line(filled, tiny_model, tmp_path, tree):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32
    )
    folder = tmp_path / "vit"
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    for path in tiny_model("bert").glob("tokenizer*"):
        shutil.copy(path, folder)
    before = tree(filled)
    with pytest.raises(IngestError, match="vit"):
        ingest_model(str(folder), corpus="test", store=filled.path)
    assert tree(filled) == before


def test_experts_that_cannot_be_read_are_refused_and_the_store_unchanged(filled, tiny_model, tmp_path, tree):
    import transformers

    config = transformers.JetMoeConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_key_value_heads=2,
        kv_channels=8, num_local_experts=4, num_experts_per_tok=2, pad_token_id=0, eos_token_id=0,
    )  # fmt: skip
    folder = tmp_path / "jetmoe"
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    for path in tiny_model("llama").glob("tokenizer*"):
        shutil.copy(path, folder)
    before = tree(filled)
    with pytest.raises(IngestError, match=r"model jetmoe \(JetMoeModel\): block 0 holds .* inside what mixes tokens"):
        ingest_model(str(folder), corpus="test", store=filled.path)
    assert tree(filled) == before
