"""Tensors of a checkpoint that nothing reads: heads and buffers are left, weights of the body are refused by name."""

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from neuronlake.errors import IngestError
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import load


@pytest.fixture
def changed(tiny_model, tmp_path):
    """Return a function that copies a tiny model and changes the names of its tensors, or adds others."""

    def make(kind, *added, rename=lambda name: name):
        folder = shutil.copytree(tiny_model(kind), tmp_path / "copy", dirs_exist_ok=True)
        tensors = {rename(name): tensor for name, tensor in load_file(tiny_model(kind) / "model.safetensors").items()}
        tensors |= {name: torch.ones(2) for name in added}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return str(folder)

    return make


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("llama", "layers.1.mlp.down_proj.weight_scale_inv"),
        ("llama", "model.layers.0.self_attn.k_scale"),
        ("llama", "layers.2.mlp.down_proj.weight"),
        ("llama", "model.layers.0.self_attn.q_proj.lora_A.weight"),
        ("llama", "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"),
        ("llama", "norm.bias"),
        ("llama", "prompt_embeddings.weight"),
        ("bert", "bert.encoder.layer.0.adapter.down.weight"),
        ("bert", "encoder.layer.0.attention.self.relative.weight"),
        ("gpt2", "transformer.h.2.mlp.c_fc.bias"),
        ("t5", "decoder.final_layer_norm.bias"),
        ("olmoe", "layers.0.mlp.shared_expert.up_proj.weight"),
    ],
)
def test_a_tensor_of_the_body_is_refused_by_name(changed, kind, name):
    with pytest.raises(IngestError, match=rf"model copy: {re.escape(name)} is not read, the first of 1 such tensors"):
        load(Checkpoint(changed(kind, name)), with_tokenizer=False)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("llama", ("lm_head.weight", "v_head.summary.bias", "model.layers.1.self_attn.rotary_emb.inv_freq")),
        ("llama", ("model.layers.2.eh_proj.weight", "model.layers.2.mlp.down_proj.weight", "mtp.norm.weight")),
        ("llama", ("vision_tower.layers.0.norm.weight", "model.visual.norm.weight", "multi_modal_projector.bias")),
        ("bert", ("cls.predictions.decoder.bias", "cls.seq_relationship.weight", "bert.embeddings.position_ids")),
        ("llama", ("critic.weight", "regression_layer.weight", "reward_transform_matrix", "crf.transitions")),
        ("bert", ("linear.weight", "classifier.out_proj.bias", "qa_outputs.weight")),
        ("gpt2", ("h.0.attn.bias", "transformer.h.1.attn.masked_bias", "lm_head.weight")),
        ("roberta", ("roberta.pooler.dense.weight", "lm_head.layer_norm.bias", "roberta.embeddings.position_ids")),
        ("t5", ("lm_head.weight", "classification_head.dense.weight", "final_logits_bias")),
    ],
)  # fmt: skip
def test_heads_and_buffers_are_left(changed, tiny_model, kind, names):
    plain = load(Checkpoint(str(tiny_model(kind))), with_tokenizer=False)
    assert load(Checkpoint(changed(kind, *names)), with_tokenizer=False).weights_sha256 == plain.weights_sha256


def test_of_a_head_that_is_read_too_nothing_is_left(tiny_model, tmp_path):
    import transformers

    config = transformers.AutoConfig.from_pretrained(tiny_model("llama"))
    folder = tmp_path / "copy"
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors") | {
        "lm_head.weight_scale": torch.ones(1),
        "v_head.bias": torch.ones(1),
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    load(Checkpoint(str(folder)), with_tokenizer=False)
    with pytest.raises(IngestError, match=r"model copy: lm_head.weight_scale is not read, the first of 1 such"):
        load(Checkpoint(str(folder)), with_head=True, with_tokenizer=False)


def test_a_prefix_that_the_class_does_not_have_is_named(changed):
    folder = changed("llama", rename=lambda name: f"module.{name}")
    with pytest.raises(
        IngestError, match=r"they would have been random; it holds module\.\S*embed_tokens.weight, under"
    ):
        load(Checkpoint(folder), with_tokenizer=False)


def test_names_of_older_checkpoints_are_read(changed, tiny_model):
    def older(name):
        return "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    plain = load(Checkpoint(str(tiny_model("bert"))), with_tokenizer=False)
    assert load(Checkpoint(changed("bert", rename=older)), with_tokenizer=False).weights_sha256 == plain.weights_sha256


@pytest.mark.parametrize(
    ("name", "is_refused"),
    [
        ("model.language_model.layers.0.mlp.down_proj.weight_scale", True),
        ("model.vision_tower.vision_model.head.weight", False),
        ("lm_head.weight", False),
        ("model.layers.0.mlp.down_proj.weight_scale", True),
    ],
)
def test_of_a_multimodal_checkpoint_the_language_model_is_read_whole(tiny_model, tmp_path, name, is_refused):
    import transformers

    vision = transformers.CLIPVisionConfig(
        image_size=8, patch_size=4, hidden_size=32, intermediate_size=40, num_hidden_layers=1, num_attention_heads=4
    )
    text = transformers.AutoConfig.from_pretrained(tiny_model("llama"))
    config = transformers.LlavaConfig(text_config=text, vision_config=vision, image_token_index=5)
    folder = tmp_path / "llava"
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    tensors = {name: torch.ones(2)} | load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if is_refused:
        with pytest.raises(IngestError, match=f"model llava: {re.escape(name)} is not read"):
            load(Checkpoint(str(folder)), with_tokenizer=False)
    else:
        assert type(load(Checkpoint(str(folder)), with_tokenizer=False).module).__name__ == "LlamaModel"


def test_weights_that_are_whole_numbers_are_refused_unless_the_configuration_says_how_to_read_them(changed):
    folder = changed("llama")
    tensors = load_file(f"{folder}/model.safetensors")
    tensors["layers.0.mlp.up_proj.weight"] = (tensors["layers.0.mlp.up_proj.weight"] * 100).to(torch.int8)
    save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IngestError, match=r"layers\.0\.mlp\.up_proj\.weight holds whole numbers \(I8\)"):
        load(Checkpoint(folder))


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_weight_that_is_stored_twice_with_different_values_is_refused(changed, is_changed):
    folder = changed("llama")
    tensors = load_file(f"{folder}/model.safetensors")
    tensors["model.norm.weight"] = tensors["norm.weight"] + is_changed
    save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
    if not is_changed:
        load(Checkpoint(folder), with_tokenizer=False)
        return
    with pytest.raises(IngestError, match=r"holds one weight twice, as norm\.weight and model\.norm\.weight, with"):
        load(Checkpoint(folder), with_tokenizer=False)
