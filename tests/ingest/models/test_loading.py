"""What keeps a checkpoint from being loaded is one clear line: other code, other files, other sizes."""

import builtins
import json
import shutil

import huggingface_hub
import pytest
import torch
import transformers

from neuronlake.errors import IngestError, UnknownNameError
from neuronlake.ingest.jobs.revisions import choose_checkpoints
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.devices import explaining_lack_of_memory
from neuronlake.ingest.models.model import load
from neuronlake.ingest.neurons.layers import find_layers


@pytest.fixture
def copied(tiny_model, tmp_path):
    """Return a function that copies a tiny Llama and changes its configuration."""

    def copy(**config):
        folder = shutil.copytree(tiny_model("llama"), tmp_path / "copy", dirs_exist_ok=True)
        content = json.loads((tiny_model("llama") / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | config))
        return folder

    return copy


@pytest.fixture
def own_code(copied, tmp_path, monkeypatch):
    """Return a function that adds Python to a checkpoint, which must not run, and names it in one of its files."""
    ran = tmp_path / "ran"
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("a question was asked"))

    def add(name, **more):
        folder = copied()
        maps = {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoTokenizer": ["own.Own", "own.Own"]}
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {"auto_map": maps} | more))
        (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(ran)!r}).touch()\nclass Own: pass\n")
        return str(folder)

    yield add
    assert not ran.exists()


@pytest.mark.parametrize("random_init", [None, 1])
def test_a_model_that_needs_code_of_its_own_is_refused_without_a_question(own_code, random_init):
    folder = own_code("config.json", model_type="own")
    with pytest.raises(IngestError, match=r"be read: it needs Python code of its own, which is never run$"):
        load(Checkpoint(folder, random_init=random_init))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_transformers_has_code_for_is_read_by_that(own_code, name):
    assert type(load(Checkpoint(own_code(name))).module).__name__ == "LlamaModel"


def test_an_adapter_beside_weights_is_not_left_unapplied(copied):
    folder = copied()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "base"}')
    with pytest.raises(IngestError, match=r"it holds an adapter \(adapter_config\.json\), which is not applied"):
        load(Checkpoint(str(folder)))
    assert load(Checkpoint(str(folder), random_init=1)).seed == 1
    for each in ("config.json", "model.safetensors"):
        (folder / each).unlink()
    with pytest.raises(IngestError, match=r"no config\.json of a model; it holds an adapter, which is no model"):
        load(Checkpoint(str(folder)))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_in_place_of_a_large_file_is_named(copied, name):
    folder = copied()
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(IngestError, match=rf"{name}: it is a Git LFS pointer, not the file; run git lfs pull$"):
        load(Checkpoint(str(folder)))


def test_a_pointer_in_place_of_weights_that_are_not_read_does_no_harm(copied):
    folder = copied()
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert load(Checkpoint(str(folder), random_init=1)).seed == 1


def test_one_part_of_a_split_gguf_file_is_refused(tmp_path):
    for name in ("m-00002-of-00003.gguf", "m-00001-of-00001.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(IngestError, match=r"m-00002-of-00003\.gguf is one part of a split GGUF file; join the parts"):
        Checkpoint(str(tmp_path / "m-00002-of-00003.gguf")).locate()
    whole = Checkpoint(str(tmp_path / "m-00001-of-00001.gguf"))
    assert whole.locate().is_local
    assert whole.stored_name == "m-00001-of-00001"


def test_an_old_folder_of_sentence_transformers_says_where_its_transformer_is(tiny_model, tmp_path):
    shutil.copytree(tiny_model("bert"), tmp_path / "0_Transformer")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 384}')
    (tmp_path / "config.json").write_text('{"__version__": "0.3.8"}')
    with pytest.raises(IngestError, match=r"it holds the revisions 0_Transformer: choose with --revision$"):
        load(Checkpoint(str(tmp_path)))
    assert [each.revision for each in choose_checkpoints(str(tmp_path), ["*"], None)] == ["0_Transformer"]
    with pytest.raises(UnknownNameError, match="no revision '1_Pooling'"):
        load(Checkpoint(str(tmp_path), revision="1_Pooling"))


def test_a_name_that_is_neither_a_folder_nor_on_the_hub_says_that_a_stored_name_is_not_enough():
    with pytest.raises(IngestError, match="a name in a store is not enough, name the files"):
        load(Checkpoint("tiny-llama-as-stored"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_size": 0}, r"its configuration says that hidden_size is 0$"),
        ({"vocab_size": -1}, r"its configuration says that vocab_size is -1$"),
        ({"num_hidden_layers": 0}, r"its configuration says that num_hidden_layers is 0$"),
        ({"intermediate_size": 0}, r"its configuration says that intermediate_size is 0$"),
        ({"num_attention_heads": 0}, r"its configuration cannot be read: integer modulo by zero$"),
        ({"num_hidden_layers": 10**6}, r"num_hidden_layers is 1,000,000; at most 10,000 can be loaded$"),
        ({"hidden_size": 10**9}, r"has at least 680\.0 GB of weights by its configuration; this machine has \S+ GB"),
        ({"vocab_size": 10**12}, r"has at least 64,000\.0 GB of weights by its configuration; this machine has"),
        ({"hidden_act": "abacus"}, r"its hidden_act is 'abacus', which transformers does not know$"),
    ],
)
def test_a_configuration_of_no_model_is_one_clear_line_before_memory_is_taken(copied, config, message):
    for random_init in (None, 1):
        with pytest.raises(IngestError, match=message):
            load(Checkpoint(str(copied(**config)), random_init=random_init))


def test_random_weights_that_memory_cannot_hold_are_not_drawn(copied):
    with pytest.raises(IngestError, match=r"has at least 7,680,\S+ GB of weights by its configuration; this machine"):
        load(Checkpoint(str(copied(intermediate_size=10**13)), random_init=1))


def test_weights_that_memory_does_not_hold_while_they_are_read_are_said_to_be_too_large(copied):
    with pytest.raises(IngestError, match=r"runs out of memory \(.*\); lower the size of its numbers"):
        load(Checkpoint(str(copied(intermediate_size=10**13))))


def test_a_padding_token_that_no_embedding_can_have_is_one_line(copied):
    with pytest.raises(IngestError, match=r"^cannot load the weights of model \S+: Padding_idx must be within"):
        load(Checkpoint(str(copied(pad_token_id=10**6))))


def test_an_index_without_tensors_is_one_line(copied):
    folder = copied()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"metadata": {}, "weight_map": {}}')
    with pytest.raises(IngestError, match=r"^cannot load the weights of model"):
        load(Checkpoint(str(folder)))


@pytest.mark.parametrize("name", ["x" * 300, "/" + "x" * 300])
def test_a_name_that_is_too_long_for_a_path_is_one_line(tiny_model, name):
    for model, tokenizer in ((name, None), (str(tiny_model("llama")), name)):
        with pytest.raises(IngestError, match=r"^cannot read /?x+: File name too long$"):
            load(Checkpoint(model), tokenizer=tokenizer)


@pytest.mark.parametrize("name", ["", "config.json"])
def test_a_tokenizer_is_a_folder(copied, name, monkeypatch):
    monkeypatch.chdir(copied())
    with pytest.raises(IngestError, match=rf"^cannot load tokenizer '{name}': there is no such folder$"):
        load(Checkpoint("."), tokenizer=name)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_that_is_not_enough_is_one_clear_line(error):
    message = r"^model m runs out of memory \(.*\); lower the size of its numbers"
    with pytest.raises(IngestError, match=message), explaining_lack_of_memory("m"):
        raise error


def test_other_errors_are_not_said_to_be_of_memory():
    with pytest.raises(RuntimeError, match=r"^other$"), explaining_lack_of_memory("m"):
        raise RuntimeError("other")


def test_a_hub_that_cannot_be_reached_is_one_line_at_once(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("it was asked again"))
    with pytest.raises(IngestError, match=r"nobody/model' .*the hub cannot be reached; .*\): no route to host$"):
        load(Checkpoint("nobody/model"))


@pytest.mark.parametrize("family", ["T5", "UMT5"])
def test_an_encoder_saved_without_its_decoder_is_read_alone(tiny_model, tmp_path, family):
    sizes = {"vocab_size": 340, "d_model": 32, "d_ff": 40, "d_kv": 8, "num_layers": 2, "num_heads": 4}
    config = getattr(transformers, f"{family}Config")(**sizes)
    getattr(transformers, f"{family}EncoderModel")(config).save_pretrained(tmp_path)
    for with_decoder in (False, True):
        model = load(Checkpoint(str(tmp_path), name="m"), with_decoder=with_decoder, with_tokenizer=False)
        (part,) = model.parts
        assert part.stack == "encoder"
        layers = find_layers(model.module, part.config, stack=part.stack, name="m", root=part.path)
        assert [layer.n_neurons for layer in layers] == [40, 40]
