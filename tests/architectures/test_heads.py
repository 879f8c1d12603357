"""Checkpoints that were saved with a head: the head is left, and all below it is read."""

from collections.abc import Iterator

import pytest
import torch
import transformers.models.auto.modeling_auto as mappings
from safetensors.torch import load_file, save_file

from neuronlake.errors import IngestError
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import load

from . import zoo_configs

# Their heads have names of every kind.
SAMPLE = ("albert", "distilbert", "electra", "gpt2", "gte", "mixtral", "modernbert")


def heads(kind: str) -> Iterator[type]:
    """Yield the classes that transformers has for a kind beside its body's."""
    config = type(zoo_configs._config(kind))
    body = mappings.MODEL_MAPPING.get(config, None)
    found = {}
    for name, mapping in vars(mappings).items():
        if name.startswith("MODEL_FOR_") and name.endswith("_MAPPING"):
            classes = mapping.get(config, None) or ()
            for each in classes if isinstance(classes, tuple) else (classes,):
                found[each.__name__] = each
    return (each for each in found.values() if each is not body)


def save(kind: str, head: type, folder) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head(zoo_configs._config(kind)).save_pretrained(folder)


@pytest.mark.parametrize("kind", SAMPLE)
def test_a_checkpoint_saved_with_any_head_loads(kind, tmp_path):
    loaded = {}
    for head in heads(kind):
        save(kind, head, tmp_path / head.__name__)
        loaded[head.__name__] = type(load(Checkpoint(str(tmp_path / head.__name__)), with_tokenizer=False).module)
    assert len(loaded) >= 2
    assert len(set(loaded.values())) == 1


@pytest.mark.parametrize("kind", ["bert", "gpt2", "mixtral", "t5"])
def test_a_tensor_in_a_block_that_nothing_reads_is_refused_by_name(kind, tmp_path):
    save(kind, next(heads(kind)), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(each for each in tensors if ".1." in each and "att" in each.lower() and each.endswith("weight"))
    save_file(tensors | {f"{name}_scale_inv": torch.ones(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IngestError, match=rf"{name}_scale_inv is not read, the first of 1 such tensors"):
        load(Checkpoint(str(tmp_path)), with_tokenizer=False)
