"""A model in memory: any transformers text model, from the hub, a folder or a GGUF file."""

import hashlib
import inspect
from dataclasses import dataclass, replace
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ...errors import IngestError
from ...schema.vocabulary import DType
from ..neurons.feed_forwards import Layer, Stack
from ..neurons.layers import find_layers
from . import loading
from .behaviour import adjust, is_causal, sees_padding, sparse_attention
from .checkpoint import Checkpoint, locate_tokenizer
from .devices import explaining_lack_of_memory, place
from .steps import parse_step
from .tensors import TensorDigest, check_unread, tensor_digests
from .tokenizers import check_vocabulary, n_embedded

# Whether the bodies of models that were not loaded here are causal, as running them has shown.
_IS_CAUSAL: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Part:
    """A stack of a model."""

    stack: Stack  # ``encoder`` if its blocks attend both ways, ``decoder`` if only to what stands before
    path: str  # path of the stack in the module that is run
    config: PreTrainedConfig  # its text configuration


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded checkpoint."""

    name: str  # what its measurements are stored under, with the revision
    revision: str
    step: int | None  # training step, None when unknown
    # The transformer body that is run, in evaluation mode and without a language-model head. For an encoder-decoder the
    # encoder alone unless both were asked for; for a multimodal model its language model.
    module: nn.Module
    parts: tuple[Part, ...]  # the stacks of `module`
    config: PreTrainedConfig  # text configuration
    given_tokenizer: PreTrainedTokenizerBase | None  # a fast tokenizer, None if it was loaded without
    tensors: tuple[TensorDigest, ...]  # digest of each parameter and buffer of the text model, decoder included
    # A digest of the names, sizes and modification times of its files, or the commit of a hub model: unless they
    # change, it stays the same. None if unknown.
    fingerprint: str | None
    seed: int | None  # seed of a random initialisation, None if the weights are the checkpoint's
    sees_padding: bool  # whether a text's states depend on its padding, so that texts must run unpadded
    notice: str | None  # what the user should know of the choice of body and of adjustments; None if nothing
    head: PreTrainedModel | None  # the whole model, which contains `module`, with its head; None if not asked for

    @property
    def weights_sha256(self) -> str:
        """Digest of all tensors together: names, types, shapes and bytes."""
        return hashlib.sha256("\n".join(tensor.sha256 for tensor in self.tensors).encode()).hexdigest()

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer; `IngestError` if the model was loaded for its weights alone."""
        if self.given_tokenizer is None:
            raise IngestError(f"model {self.name} was loaded without a tokenizer")
        return self.given_tokenizer

    def layers(self) -> tuple[Layer, ...]:
        """Return the layers of all stacks; raise an IngestError if a neuron cannot be found."""
        return tuple(
            layer
            for part in self.parts
            for layer in find_layers(self.module, part.config, stack=part.stack, name=self.name, root=part.path)
        )


def load(
    checkpoint: Checkpoint,
    *,
    dtype: DType = "float32",
    device: str = "cpu",  # torch device, ``auto`` for a GPU where there is one, or ``split`` for all GPUs
    with_decoder: bool = False,  # whether an encoder-decoder runs whole, and takes decoder inputs, or its encoder alone
    with_head: bool = False,  # whether to load the language-model head too; all else stays, also `weights_sha256`
    tokenizer: str | None = None,  # hub id or folder of the tokenizer; the checkpoint's own if None
    with_tokenizer: bool = True,
) -> Model:
    """Load a checkpoint, ready to be measured; raise `IngestError` if it cannot be, or has not the head asked for."""
    source, label, seed = checkpoint.locate(), checkpoint.stored_name, checkpoint.random_init
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    other = None if tokenizer is None else locate_tokenizer(tokenizer)
    with loading.quietly(), explaining_lack_of_memory(label):
        fingerprint = source.fingerprint()  # before anything is read: what changes meanwhile must be noticed
        config = loading.read_config(source, with_weights=seed is None)
        given_tokenizer = loading.read_tokenizer(source, config, other) if with_tokenizer else None
        if with_head and seed is not None:
            raise IngestError(f"model {label} cannot predict tokens: its weights are random, and so would be its head")
        if seed is None:
            kind = loading.head_class(config, label) if with_head else loading.body_class(config)
            whole, unexpected = loading.read_weights(source, config, kind, dtype, device)
        else:
            whole, unexpected = loading.initialise(config, seed, label, dtype), set()
        head = whole if with_head else None
        body = whole if head is None else loading.body_of(head)
        text_model = _text_model(body, label)
        check_unread(unexpected, whole, text_model, label)
        tensors = tensor_digests(text_model, label)
        module, parts = stack_parts(text_model, with_decoder=with_decoder)
        module.eval()
        if not getattr(whole, "is_quantized", False):  # else it was placed as it was read
            place(module if head is None else head, device, label)
        notices = list(adjust(module, label))
        if text_model is not body:
            named = type(text_model).__name__
            notices.insert(0, f"{label} is a multimodal model: its language model {named} is measured")
        if not text_model.config.is_encoder_decoder:
            parts = (replace(parts[0], stack="decoder" if is_causal(module, label) else "encoder"),)
            if head is not None:
                loading.check_head(head, parts[0].stack, label)
        if given_tokenizer is not None:
            check_vocabulary(given_tokenizer, int(text_model.config.vocab_size), label)
        return Model(
            name=label,
            revision=checkpoint.stored_revision,
            step=parse_step(checkpoint.stored_revision) if seed is None else 0,
            module=module,
            parts=parts,
            config=text_model.config,
            given_tokenizer=given_tokenizer,
            tensors=tensors,
            fingerprint=fingerprint or source.cached_commit(),
            seed=seed,
            sees_padding=sees_padding(module.get_submodule(parts[0].path), label),
            notice="; ".join(notices) or None,
            head=head,
        )


def first_position(module: nn.Module) -> int:
    """Return the first learned position: in RoBERTa and its kin they start behind the padding token's id."""
    parts = (part for path, part in module.named_modules() if path.endswith("position_embeddings"))
    padding = (part.padding_idx for part in parts if isinstance(part, nn.Embedding) and part.padding_idx is not None)
    return next((int(index) + 1 for index in padding), 0)


def start_token(model: Model) -> int:
    """Return the token with which a decoder starts; raise `IngestError` if none is named, or it is not embedded."""
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    name = next((name for name in names if isinstance(getattr(model.config, name, None), int)), None)
    if name is None:
        raise IngestError(f"model {model.name}: its configuration names no token for its decoder to start with")
    token, n_tokens = int(getattr(model.config, name)), n_embedded(decoder_of(model))
    if not 0 <= token < n_tokens:
        problem = f"model {model.name}: its decoder starts with token {token:,} by its {name}"
        raise IngestError(f"{problem}, but has embeddings for {n_tokens:,} tokens alone")
    return token


def decoder_of(model: Model) -> nn.Module:
    """Return the decoder of an encoder-decoder that was loaded with it."""
    whole = cast("PreTrainedModel", model.head or model.module)
    return cast("nn.Module", whole.get_decoder())  # type: ignore[no-untyped-call]


def stack_parts(whole: PreTrainedModel, *, with_decoder: bool) -> tuple[nn.Module, tuple[Part, ...]]:
    """Return the module to run, and its stacks; a model with one stack is called an encoder until it is tried."""
    if not whole.config.is_encoder_decoder:
        return whole, (Part("encoder", "", whole.config),)
    stacks: dict[Stack, nn.Module] = {"encoder": whole.get_encoder(), "decoder": whole.get_decoder()}  # type: ignore[no-untyped-call]
    configs = {stack: getattr(module, "config", whole.config).get_text_config() for stack, module in stacks.items()}
    if not with_decoder or stacks["decoder"] is whole:  # an encoder that was saved without its decoder
        return stacks["encoder"], (Part("encoder", "", configs["encoder"]),)
    paths = {module: path for path, module in whole.named_modules()}
    return whole, tuple(Part(stack, paths[module], configs[stack]) for stack, module in stacks.items())


def body_parts(model: PreTrainedModel) -> tuple[PreTrainedModel, tuple[Part, ...]]:
    """Return the body of a model that was not loaded here, and its stacks as `load` would name them.

    The first time, two texts of four tokens are run to distinguish an encoder from a decoder. The model stays as it is.
    """
    label = model.name_or_path or type(model).__name__
    body = _text_model(cast("PreTrainedModel", model.base_model), label)
    _, parts = stack_parts(body, with_decoder=True)
    if len({part.path for part in parts}) > 1:  # one stack of an encoder-decoder says that it is both
        return body, parts
    if body not in _IS_CAUSAL:
        if sparse_attention(body):
            problem = f"model {label} attends by sparse blocks, which any short text would switch off for good"
            remedy = f"call set_attention_type('original_full') on its {type(body).__name__}, as jobs do"
            raise IngestError(f"{problem}; {remedy}")
        _IS_CAUSAL[body] = is_causal(body, label)
    return body, (replace(parts[0], stack="decoder" if _IS_CAUSAL[body] else "encoder"),)


def _text_model(whole: PreTrainedModel, label: str) -> PreTrainedModel:
    """Return the part of a model that takes text; `label` names the model."""
    config = whole.config
    text_config = config if config.is_encoder_decoder else config.get_text_config()
    # In a multimodal model, the language model is the outermost that has the text configuration.
    for model in [whole] if text_config is config else whole.modules():
        is_of_text = isinstance(model, PreTrainedModel) and model.config is text_config
        if is_of_text and "input_ids" in inspect.signature(model.forward).parameters:
            return cast("PreTrainedModel", model)
    problem = f"model {label} ({type(whole).__name__}) does not take text, so it cannot be measured"
    raise IngestError(f"{problem}; models of images, audio or time series cannot")
