"""A checkpoint in memory: any transformers text model, from the hub, a folder or a GGUF file."""

import contextlib
import inspect
import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from ..errors import IngestError, one_line
from ..schema.vocabulary import DType
from .adjustments import adjust
from .devices import device_map, place
from .digests import OPTIONAL_WEIGHTS, TensorDigest, combined_sha256, tensor_digests
from .feed_forwards import Stack
from .heads import body_of, check_head, head_class
from .names import parse_step
from .source import Source, locate
from .trials import is_causal, sees_padding

__all__ = ["Model", "Part", "body_parts", "first_position", "load", "stack_parts", "start_token"]

# What transformers raises for files that are absent, malformed or of another kind.
_LOADING_ERRORS = (OSError, ValueError, KeyError, ImportError, AttributeError, TypeError, struct.error)
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
    tokenizer
        A fast tokenizer.
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
    tokenizer: PreTrainedTokenizerBase
    weights_sha256: str
    tensors: tuple[TensorDigest, ...]
    fingerprint: str | None
    seed: int | None
    sees_padding: bool
    notice: str | None
    head: PreTrainedModel | None


def load(
    model: str,
    *,
    revision: str | None = None,
    random_init: int | None = None,
    name: str | None = None,
    dtype: DType = "float32",
    device: str = "cpu",
    with_decoder: bool = False,
    with_head: bool = False,
) -> Model:
    """Load a model ready to be measured.

    Parameters
    ----------
    model
        Hub id, folder, or path of a ``.gguf`` file.
    revision
        Branch, tag or commit on the hub; the name of a subfolder of a local folder.
    random_init
        Initialise the architecture randomly with this seed in place of the checkpoint's weights. Weights are
        drawn on the CPU in float32, so that the seed means the same everywhere.
    name
        Name to store the model under; the hub id or folder name if None.
    dtype
        Floating-point type of the weights.
    device
        Torch device, or ``split`` for all GPUs.
    with_decoder
        Whether an encoder-decoder is run whole, which takes decoder inputs, or its encoder alone.
    with_head
        Whether the language-model head is loaded too; all else is as without it, the digest of the weights included.

    Raises
    ------
    IngestError
        If it is not there, is no text model, lacks weights, or holds NaN or infinite weights. A head that was asked
        for must be the checkpoint's own.
    """
    source = locate(model, revision, random_init)
    label = name or source.name
    with _quietly():
        return _load(
            source, model, label, revision, random_init, dtype, device, with_decoder=with_decoder, with_head=with_head
        )


def _load(
    source: Source,
    model: str,
    label: str,
    revision: str | None,
    random_init: int | None,
    dtype: DType,
    device: str,
    *,
    with_decoder: bool,
    with_head: bool,
) -> Model:
    fingerprint = source.fingerprint()  # before anything is read: what changes meanwhile must be noticed
    config = _from_hub(AutoConfig, source, model)
    fingerprint = fingerprint or source.cached_commit()
    tokenizer = _from_hub(AutoTokenizer, source, model)
    if not getattr(tokenizer, "is_fast", False):
        raise IngestError(
            f"model {label}: its tokenizer {type(tokenizer).__name__} is not a fast one, which spans need"
        )
    if with_head and random_init is not None:
        raise IngestError(f"model {label} cannot predict tokens: its weights are random, and so would be its head")
    if random_init is None:
        kind = head_class(config, label) if with_head else AutoModel
        whole = _load_weights(source, model, kind, dtype, device if hasattr(config, "quantization_config") else None)
        stored_revision = revision or "main"
        step = parse_step(stored_revision)
    else:
        whole = _initialise(config, random_init, label, dtype)
        stored_revision = f"random-{random_init}"
        step = 0
    head = whole if with_head else None
    is_placed = getattr(whole, "is_quantized", False)
    whole, notice = _text_model(whole if head is None else body_of(head), label)
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
    _check_vocabulary(tokenizer, whole.config, label)
    return Model(
        name=label,
        revision=stored_revision,
        step=step,
        module=body,
        parts=parts,
        config=whole.config,
        tokenizer=tokenizer,
        weights_sha256=combined_sha256(tensors),
        tensors=tensors,
        fingerprint=fingerprint,
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
        If its configuration names none.
    """
    for name in ("decoder_start_token_id", "bos_token_id", "pad_token_id"):
        token = getattr(model.config, name, None)
        if isinstance(token, int):
            return token
    raise IngestError(f"model {model.name}: its configuration names no token for its decoder to start with")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers' bars and reports off the caller's terminal: jobs and errors speak for themselves."""
    shown, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _from_hub(kind: type, source: Source, model: str) -> Any:  # noqa: ANN401 - transformers' factories are untyped
    try:
        return kind.from_pretrained(source.path, **source.arguments)  # type: ignore[attr-defined]
    except (*_LOADING_ERRORS, StrictDataclassError) as error:
        where = f"folder {source.path}" if source.is_local else "no such folder here, and the hub did not give it"
        what = "configuration" if kind is AutoConfig else "tokenizer"
        raise IngestError(
            f"cannot load model {model!r} ({where}): its {what} cannot be read: {one_line(error)}"
        ) from error


def _load_weights(source: Source, model: str, kind: type, dtype: DType, quantised_to: str | None) -> PreTrainedModel:
    # Quantised weights cannot be moved afterwards: they are put on their device as they are read.
    placed = {} if quantised_to is None else {"device_map": device_map(quantised_to)}
    try:
        whole, found = kind.from_pretrained(  # type: ignore[attr-defined]
            source.path,
            **source.arguments,
            **placed,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # its error does not name them: they are refused below
        )
    except (*_LOADING_ERRORS, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
        why = one_line(error)
        if "above report" in str(error):  # transformers prints which: its error does not tell
            why = "weights are missing or of other shapes than its configuration says"
        elif "weights_only" in str(error):  # torch advises to run what the file says
            why = "its torch file is damaged, or holds more than tensors"
        raise IngestError(f"cannot load the weights of model {model!r}: {why}") from error
    mismatched = sorted(found["mismatched_keys"])
    if mismatched:
        name, shape, configured = mismatched[0]
        raise IngestError(
            f"cannot load the weights of model {model!r}: {len(mismatched)} are of other shapes than its configuration "
            f"says, {name} the first: {tuple(shape)} in place of {tuple(configured)}"
        )
    missing = sorted(key for key in found["missing_keys"] if not OPTIONAL_WEIGHTS.search(key))
    if missing:
        without = ":" if kind is AutoModel else " cannot predict tokens:"
        raise IngestError(
            f"model {model!r}{without} the checkpoint lacks {len(missing)} weights of {type(whole).__name__}, "
            f"{missing[0]} the first; they would have been random"
        )
    return whole  # type: ignore[no-any-return]


def _initialise(config: PreTrainedConfig, seed: int, label: str, dtype: DType) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            drawn: PreTrainedModel = AutoModel.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
        except (ValueError, ImportError) as error:
            raise IngestError(f"model {label}: {one_line(error)}") from error
    if dtype == "float32":
        return drawn
    # As a checkpoint would be read in this type: some weights stay float32.
    state = drawn.state_dict()
    read: PreTrainedModel = type(drawn).from_pretrained(
        None, config=drawn.config, state_dict=state, dtype=getattr(torch, dtype)
    )
    return read


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


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, label: str) -> None:
    """Refuse a tokenizer that is not the model's: transformers makes up an empty one where files are missing."""
    n_model, n_tokenizer = int(config.vocab_size), len(tokenizer)
    if 2 * n_tokenizer < n_model:
        raise IngestError(
            f"model {label}: its tokenizer knows {n_tokenizer:,} tokens, the model {n_model:,}; are files missing?"
        )
