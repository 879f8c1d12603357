"""Inputs that failed in public reports: each is measured right, or refused in one line that says why."""

import json

import pytest
from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer

from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import load

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def cases(shared):
    folder = shared / "cases"
    if not folder.is_dir():
        pytest.skip("no cases beside the repository")
    return folder


@pytest.fixture(scope="module")
def base_store(cases, succeeds, tmp_path_factory):
    """Return a store that holds corpus `c` and a run of `base` on it."""
    store = tmp_path_factory.mktemp("cases") / "store"
    succeeds("--store", store, "corpus", "add", cases / "corpus.jsonl", "--name", "c")
    succeeds("--store", store, "ingest", cases / "base", "--corpus", "c")
    return store


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("01_fp8_scales_dropped/fp8_noconfig", "weight_scale_inv is not read, the first of 14 such tensors"),
        ("02_unexpected_tensors/layers_fewer", "model.layers.1.input_layernorm.weight is not read, the first of 9"),
        ("03_adapter_beside_base/adapter_with_base", "it holds an adapter (adapter_config.json), which is not applied"),
        ("03_adapter_beside_base/adapter_only", "it holds an adapter, which is no model"),
        ("05_custom_code_prompt/remote", "it needs Python code of its own, which is never run"),
        ("13_st_old_layout", "it holds the revisions 0_Transformer: choose with --revision"),
        ("14_no_tokenizer_in_checkpoint/no_tokenizer", "name another: --tokenizer"),
        ("15_lfs_pointers/lfs_weights", "is a Git LFS pointer, not the file; run git lfs pull"),
        ("15_lfs_pointers/lfs_bin", "is a Git LFS pointer, not the file; run git lfs pull"),
        ("15_lfs_pointers/lfs_tokenizer", "is a Git LFS pointer, not the file; run git lfs pull"),
    ],
)
def test_a_checkpoint_that_cannot_be_measured_whole_is_refused(cases, base_store, fails, monkeypatch, model, said):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    assert said in fails("--store", base_store, "ingest", cases / model, "--corpus", "c")


def test_scales_that_the_configuration_names_are_applied(cases, base_store, succeeds):
    succeeds("--store", base_store, "ingest", cases / "01_fp8_scales_dropped/fp8_real", "--corpus", "c")
    query = "select max(mean), max(input_norm) from neurons where model = 'fp8_real'"
    ((mean, norm),) = (
        row.values() for row in json.loads(succeeds("--store", base_store, "sql", query, "--format", "json"))
    )
    assert (round(mean, 4), round(norm, 4)) == (0.0085, 0.1932)


def test_a_machine_that_could_compute_in_eight_bits_reads_the_same_numbers(cases, monkeypatch):
    checkpoint = Checkpoint(str(cases / "01_fp8_scales_dropped/fp8_real"))
    here = load(checkpoint)
    # As with a GPU of capability 8.9, where transformers would leave the weights in eight bits.
    monkeypatch.setattr(FineGrainedFP8HfQuantizer, "validate_environment", lambda *_, **__: None)
    assert load(checkpoint).weights_sha256 == here.weights_sha256


def test_a_pad_token_without_an_embedding_changes_nothing(cases, succeeds, tmp_path):
    case, store = cases / "04_pad_token_beyond_embeddings", tmp_path / "store"
    succeeds("--store", store, "corpus", "add", case / "corpus.jsonl", "--name", "c")
    for model in (cases / "base", case / "pad_oov"):
        succeeds("--store", store, "ingest", model, "--corpus", "c")
    query = "select layer, neuron, family, function, ap, auroc from neuron_functions where model = '{}' order by all"
    base, padded = (succeeds("--store", store, "sql", query.format(model)) for model in ("base", "pad_oov"))
    assert base == padded
    assert len(base.splitlines()) > 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("build", "conllu", "07_conllu_bom_blank_sidecar/ok.conllu", "--min-count", "1"),
            "6 instances of 2 texts, 6 ",
        ),
        (
            ("build", "conllu", "07_conllu_bom_blank_sidecar/bom.conllu", "--min-count", "1"),
            "6 instances of 2 texts, 6 ",
        ),
        (
            ("build", "conllu", "07_conllu_bom_blank_sidecar/bom_nocomment.conllu", "--min-count", "1"),
            "6 instances of 2 texts, 6 ",
        ),
        (
            ("build", "conllu", "07_conllu_bom_blank_sidecar/wsblank.conllu", "--min-count", "1"),
            "6 instances of 2 texts, 6 ",
        ),
        (("build", "folders", "08_folders_encodings_sidecars/apple_f"), "2 instances of 2 texts"),
        (("build", "folders", "08_folders_encodings_sidecars/cp1252"), "file that is not UTF-8, read as cp1252"),
        (("build", "folders", "08_folders_encodings_sidecars/news20"), "6 instances of 6 texts, 3 functions"),
        (("add", "09_csv_pandas_floats/b_float_bool.csv"), "8 instances of 8 texts, 1 function"),
        (("add", "09_csv_pandas_floats/b_float_bool.jsonl"), "8 instances of 8 texts, 1 function"),
        (("add", "09_csv_pandas_floats/b_float_span.csv"), "8 instances of 8 texts"),
        (("add", "09_csv_pandas_floats/b_int_bool.jsonl"), "8 instances of 8 texts, 1 function"),
        (("add", "10_csv_shapes/a_repr.csv"), "8 instances of 8 texts, 2 functions"),
        (("add", "10_csv_shapes/c_cr.csv"), "8 instances of 8 texts"),
        (("add", "10_csv_shapes/c_semicolon.csv"), "8 instances of 8 texts"),
        (("add", "10_csv_shapes/c_space.csv"), "8 instances of 8 texts"),
        (("add", "10_csv_shapes/c_tab.csv"), "8 instances of 8 texts"),
        (("add", "10_csv_shapes/c_trailing.csv"), "8 instances of 8 texts"),
        (("build", "trex", "11_trex_variants/trex_blank_mid"), "8 instances of 8 texts"),
        (("build", "trex", "11_trex_variants/trex_gz"), "8 instances of 8 texts"),
        (("build", "trex", "11_trex_variants/trex_kamel"), "16 instances of 16 texts"),
        (("build", "trex", "11_trex_variants/trex_nullsub"), "1  fact without a subject or an object"),
        (("build", "trex", "11_trex_variants/trex_surface"), "8 instances of 8 texts"),
    ],
)
def test_a_corpus_is_read_as_it_is_meant(cases, succeeds, tmp_path, arguments, said):
    arguments = [cases / each if "/" in each else each for each in arguments]
    assert said in succeeds("--store", tmp_path / "store", "corpus", *arguments, "--name", "x")
