"""A model in memory: any transformers text model, from the hub, a folder or a GGUF file."""

import inspect
from dataclasses import dataclass, replace
from typing import cast
from weakref import WeakKeyDictionary

from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ...errors import IngestError
from ...schema.vocabulary import DType
from ..neurons.feed_forwards import Stack
from .adjustments import adjust
from .behaviour import is_causal, sees_padding
from .checkpoint import Checkpoint
from .devices import place
from .digests import TensorDigest, combined_sha256, tensor_digests
from .heads import body_of, check_head, head_class
from .loading import initialise, quietly, read_config, read_tokenizer, read_weights
from .memory import explaining_lack_of_memory
from .source import Source, locate_tokenizer
from .steps import parse_step
from .tokenizers import check_vocabulary, n_embedded
from .unread import check_unread

__all__ = ["Model", "Part", "body_parts", "decoder_of", "first_position", "load", "stack_parts", "start_token"]

# What running the bodies of models in memory has told of them.
_IS_CAUSAL: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Part:
    """A stack of a loaded checkpoint.

    Parameters
    ----------
    stack
        Whether its blocks attend both ways (encoder) or to the left (decoder).
    path
        Where it is in the module that is run.
    config
        Its text configuration.
    """

    stack: Stack
    path: str
    config: PreTrainedConfig


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded checkpoint.

    Parameters
    ----------
    name, revision
        The keys its measurements are stored under.
    step
        Training step, None when unknown.
    module
        The transformer body that is run, in evaluation mode: no language-model head; of an encoder-decoder the
        encoder alone unless both were asked for, of a multimodal model the language model.
    parts
        Its stacks.
    config
        Its text configuration.
    given_tokenizer
        A fast tokenizer, None if it was loaded without.
    weights_sha256
        Digest of the parameters and buffers of the text model, decoder included: names, types, shapes and bytes.
    tensors
        Digest of each of these tensors.
    fingerprint
        What tells that its files are as they were: a digest of their names, sizes and times of change, of a hub model
        its commit; None if unknown.
    seed
        Seed of a random initialisation, None for given weights.
    sees_padding
        Whether a text's states depend on its padding, so that texts must run unpadded.
    notice
        What the caller should be told about the choice of body, None if nothing.
    head
        The whole model with its language-model head, `module` within it, if it was asked for.
    """

    name: str
    revision: str
    step: int | None
    module: nn.Module
    parts: tuple[Part, ...]
    config: PreTrainedConfig
    given_tokenizer: PreTrainedTokenizerBase | None
    weights_sha256: str
    tensors: tuple[TensorDigest, ...]
    fingerprint: str | None
    seed: int | None
    sees_padding: bool
    notice: str | None
    head: PreTrainedModel | None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """A fast tokenizer.

        Raises
        ------
        IngestError
            If the model was loaded for its weights alone.
        """
        if self.given_tokenizer is None:
            raise IngestError(f"model {self.name} was loaded without a tokenizer")
        return self.given_tokenizer


def load(
    checkpoint: Checkpoint,
    *,
    dtype: DType = "float32",
    device: str = "cpu",
    with_decoder: bool = False,
    with_head: bool = False,
    tokenizer: str | None = None,
    with_tokenizer: bool = True,
) -> Model:
    """Load a model ready to be measured.

    Parameters
    ----------
    checkpoint
        Which checkpoint.
    dtype
        Floating-point type of the weights.
    device
        Torch device, or ``split`` for all GPUs.
    with_decoder
        Whether an encoder-decoder is run whole, which takes decoder inputs, or its encoder alone.
    with_head
        Whether the language-model head is loaded too; all else is as without it, the digest of the weights included.
    tokenizer
        Hub id or folder of the tokenizer to read texts with; the checkpoint's own if None.
    with_tokenizer
        Whether texts will be read at all; no tokenizer is loaded if not.

    Raises
    ------
    IngestError
        If it is not there, is no text model, needs code of its own, lacks weights or holds some that are not read, or
        holds NaN or infinite weights; or if there is no memory for it. A head that was asked for must be the
        checkpoint's own.
    """
    source, model = checkpoint.locate(), checkpoint.model
    other = None if tokenizer is None else locate_tokenizer(tokenizer)
    label = checkpoint.stored_name
    with quietly(), explaining_lack_of_memory(label):
        fingerprint = source.fingerprint()  # before anything is read: what changes meanwhile must be noticed
        config = read_config(source, model, with_weights=checkpoint.random_init is None)
        words = read_tokenizer(source, model, other, config) if with_tokenizer else None
        loaded = _load(checkpoint, source, config, dtype, device, with_decoder=with_decoder, with_head=with_head)
        if words is not None:
            check_vocabulary(words, int(loaded.config.vocab_size), label)
        return replace(loaded, fingerprint=fingerprint or source.cached_commit(), given_tokenizer=words)


def _load(
    checkpoint: Checkpoint,
    source: Source,
    config: PreTrainedConfig,
    dtype: DType,
    device: str,
    *,
    with_decoder: bool,
    with_head: bool,
) -> Model:
    """Load a model without its tokenizer."""
    label, random_init = checkpoint.stored_name, checkpoint.random_init
    if with_head and random_init is not None:
        raise IngestError(f"model {label} cannot predict tokens: its weights are random, and so would be its head")
    if random_init is None:
        kind = head_class(config, label) if with_head else AutoModel
        whole, unexpected = read_weights(source, checkpoint.model, config, kind, dtype, device)
        step = parse_step(checkpoint.stored_revision)
    else:
        whole, unexpected = initialise(config, random_init, label, dtype), set()
        step = 0
    head = whole if with_head else None
    is_placed = getattr(whole, "is_quantized", False)
    read, (whole, notice) = whole, _text_model(whole if head is None else body_of(head), label)
    check_unread(unexpected, read, whole, label)
    tensors = tensor_digests(whole, label)
    body, parts = stack_parts(whole, with_decoder=with_decoder)
    body = body.eval()
    if not is_placed:
        place(body if head is None else head, device, label)
    notice = "; ".join(filter(None, (notice, *adjust(body, label)))) or None
    if not whole.config.is_encoder_decoder:
        parts = (replace(parts[0], stack="decoder" if is_causal(body, label) else "encoder"),)
        if head is not None:
            check_head(head, parts[0].stack, label)
    return Model(
        name=label,
        revision=checkpoint.stored_revision,
        step=step,
        module=body,
        parts=parts,
        config=whole.config,
        given_tokenizer=None,
        weights_sha256=combined_sha256(tensors),
        tensors=tensors,
        fingerprint=None,
        seed=random_init,
        sees_padding=sees_padding(body.get_submodule(parts[0].path), label),
        notice=notice,
        head=head,
    )


def first_position(module: nn.Module) -> int:
    """Return the first learned position: in RoBERTa and its kin they start behind the padding token's id."""
    for path, each in module.named_modules():
        if path.endswith("position_embeddings") and isinstance(each, nn.Embedding) and each.padding_idx is not None:
            return each.padding_idx + 1
    return 0


def start_token(model: Model) -> int:
    """Return what the decoder of an encoder-decoder starts with.

    Raises
    ------
    IngestError
        If its configuration names none, or one that the decoder has no embedding for.
    """
    for name in ("decoder_start_token_id", "bos_token_id", "pad_token_id"):
        token = getattr(model.config, name, None)
        if isinstance(token, int):
            n_tokens = n_embedded(decoder_of(model))
            if not 0 <= token < n_tokens:
                raise IngestError(
                    f"model {model.name}: its decoder starts with token {token:,} by its {name}, but has embeddings "
                    f"for {n_tokens:,} tokens alone"
                )
            return token
    raise IngestError(f"model {model.name}: its configuration names no token for its decoder to start with")


def decoder_of(model: Model) -> nn.Module:
    """Return the decoder of an encoder-decoder that was loaded with it."""
    whole = cast("PreTrainedModel", model.head or model.module)
    return cast("nn.Module", whole.get_decoder())  # type: ignore[no-untyped-call]


def _text_model(whole: PreTrainedModel, label: str) -> tuple[PreTrainedModel, str | None]:
    """Return the model that takes text, and what the caller should be told about it."""
    config = whole.config
    text_config = config if config.is_encoder_decoder else config.get_text_config()
    candidates = [each for each in whole.modules() if isinstance(each, PreTrainedModel) and _takes_text(each)]
    if text_config is config:
        candidates = [each for each in candidates if each is whole]
    else:  # a multimodal model: its language model is the outermost that has the text configuration
        candidates = [each for each in candidates if each.config is text_config]
    if not candidates:
        raise IngestError(
            f"model {label} ({type(whole).__name__}) does not take text, so it cannot be measured; models of images, "
            "audio or time series cannot"
        )
    found = candidates[0]
    if found is whole:
        return whole, None
    return found, f"{label} is a multimodal model: its language model {type(found).__name__} is measured"


def _takes_text(model: PreTrainedModel) -> bool:
    return "input_ids" in inspect.signature(model.forward).parameters


def stack_parts(whole: PreTrainedModel, *, with_decoder: bool) -> tuple[nn.Module, tuple[Part, ...]]:
    """Return the module to run and its stacks."""
    if not whole.config.is_encoder_decoder:
        return whole, (Part("encoder", "", whole.config),)
    stacks: dict[Stack, nn.Module] = {"encoder": whole.get_encoder(), "decoder": whole.get_decoder()}  # type: ignore[no-untyped-call]
    configs = {stack: getattr(each, "config", whole.config).get_text_config() for stack, each in stacks.items()}
    if not with_decoder:
        return stacks["encoder"], (Part("encoder", "", configs["encoder"]),)
    paths = {id(each): path for path, each in whole.named_modules()}
    return whole, tuple(Part(stack, paths[id(each)], configs[stack]) for stack, each in stacks.items())


def body_parts(model: PreTrainedModel) -> tuple[PreTrainedModel, tuple[Part, ...]]:
    """Return the body of a model in memory, with or without a head, and its stacks, as a job would name them.

    The first time, two texts of four tokens are run to tell an encoder from a decoder. The model stays as it is.

    Raises
    ------
    IngestError
        If it does not take text, or does not run on it, or would be another after a short text.
    """
    label = model.name_or_path or type(model).__name__
    body, _ = _text_model(cast("PreTrainedModel", model.base_model), label)
    _, parts = stack_parts(body, with_decoder=True)
    if len({part.path for part in parts}) > 1:  # one stack of an encoder-decoder says that it is both
        return body, parts
    if body not in _IS_CAUSAL:
        _IS_CAUSAL[body] = _is_causal_as_it_is(body, label)
    return body, (replace(parts[0], stack="decoder" if _IS_CAUSAL[body] else "encoder"),)


def _is_causal_as_it_is(body: PreTrainedModel, label: str) -> bool:
    modules = list(body.modules())
    if any(getattr(each, "attention_type", None) == "block_sparse" for each in modules):
        raise IngestError(
            f"model {label} attends by sparse blocks, which any short text would switch off for good; call "
            f"set_attention_type('original_full') on its {type(body).__name__}, as jobs do"
        )
    training = [each for each in modules if each.training]
    body.eval()  # type: ignore[no-untyped-call]
    try:
        return is_causal(body, label)
    finally:
        for each in training:
            each.training = True
