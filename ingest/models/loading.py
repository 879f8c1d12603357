"""What transformers reads of a checkpoint: configuration, tokenizer and weights, or a clear error."""

import contextlib
import logging
import os
import pickle
import re
import struct
from collections.abc import Iterator
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging
from transformers.utils.peft_utils import find_adapter_config_file

from ...errors import IngestError, one_line
from ...schema.vocabulary import DType
from ..neurons.widths import expert_counts
from .devices import device_map
from .digests import OPTIONAL_WEIGHTS
from .memory import lacks_memory
from .source import Source
from .tokenizers import set_aside

__all__ = ["initialise", "quietly", "read_config", "read_tokenizer", "read_weights"]

# What transformers raises for files that are absent, malformed or of another kind.
_LOADING_ERRORS = (
    *(OSError, ValueError, LookupError, ImportError, AttributeError, TypeError, ArithmeticError, RecursionError),
    *(AssertionError, struct.error, StrictDataclassError),
)
# Sizes that a model without one of is none; where a configuration has another name for one, this is an alias.
_SIZES = ("hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads")
# Far more layers than any model has, and few enough to be laid out without memory in a minute.
_MOST_LAYERS = 10_000


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep libraries' bars and reports off the caller's terminal: jobs and errors speak for themselves."""
    quantiser = logging.getLogger("bitsandbytes")
    level = quantiser.level
    quantiser.setLevel(logging.ERROR)
    shown, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        quantiser.setLevel(level)
        transformers_logging.set_verbosity(verbosity)
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def read_config(source: Source, model: str, *, with_weights: bool) -> PreTrainedConfig:
    """Read a checkpoint's configuration.

    Parameters
    ----------
    source
        Where it is.
    model
        What it was asked for as, for errors.
    with_weights
        Whether its weights are read after it, which an adapter would change.

    Raises
    ------
    IngestError
        If it is not there, or implies sizes that no model has.
    """
    source.check_fetched(with_weights=with_weights)
    if with_weights and "gguf_file" not in source.arguments:
        adapter = None
        with contextlib.suppress(OSError, ValueError):  # what is read next says why
            adapter = find_adapter_config_file(source.path, revision=source.arguments.get("revision"))
        if adapter is not None:
            raise IngestError(
                f"cannot load model {model!r}: it holds an adapter (adapter_config.json), which is not applied; merge "
                "it into its base model and save that, or take the adapter's files away"
            )
    config: PreTrainedConfig = _read(AutoConfig, source, f"model {model!r}", "configuration")
    _check_sizes(config, model)
    return config


def read_tokenizer(
    source: Source, model: str, other: Source | None, config: PreTrainedConfig
) -> PreTrainedTokenizerBase:
    """Read a checkpoint's tokenizer, or another one for it.

    Parameters
    ----------
    source, model
        As `read_config` takes them.
    other
        Where the other tokenizer is; None to read the checkpoint's own.
    config
        The checkpoint's configuration.

    Raises
    ------
    IngestError
        If it is not there, or is not a fast one.
    """
    if other is None:
        tokenizer = _read(AutoTokenizer, source, f"model {model!r}", "tokenizer")
    else:
        other.check_fetched(with_weights=False)
        tokenizer = _read(AutoTokenizer, other, f"tokenizer {other.name!r}", "files", config=config)
    if not getattr(tokenizer, "is_fast", False):
        raise IngestError(
            f"model {model}: its tokenizer {type(tokenizer).__name__} is not a fast one, which spans need"
        )
    set_aside(tokenizer)
    return tokenizer  # type: ignore[no-any-return]


def _read(kind: type, source: Source, label: str, what: str, **more: object) -> Any:  # noqa: ANN401 - untyped factories
    try:
        return kind.from_pretrained(source.path, **source.arguments, **more, trust_remote_code=False)  # type: ignore[attr-defined]
    except Exception as error:
        # The library of tokenizers raises nothing more exact than an Exception for a file that it cannot read.
        if not isinstance(error, _LOADING_ERRORS) and type(error) is not Exception:
            raise
        where = (
            f"folder {source.path}"
            if source.is_local
            else "no such folder here, and the hub did not give it; a name in a store is not enough, name the files"
        )
        raise IngestError(f"cannot load {label} ({where}): its {what} cannot be read: {_why(error)}") from error


def _why(error: BaseException, config: PreTrainedConfig | None = None) -> str:
    """Return why transformers could not load something, as one line."""
    text = str(error)
    if "above report" in text:  # transformers prints which: its error does not tell
        return "weights are missing or of other shapes than its configuration says"
    if "weights_only" in text:  # torch advises to run what the file says
        return "its torch file is damaged, or holds more than tensors"
    if "trust_remote_code" in text:  # transformers advises to run it
        return "it needs Python code of its own, which is never run"
    if "backend tokenizer" in text:  # transformers tells what it would have needed
        return "there is none, or not all of its files; name another: --tokenizer"
    if config is not None and isinstance(error, KeyError):
        settings = vars(config.get_text_config())  # it may name an activation function that is none
        name = next((name for name, value in settings.items() if value == error.args[0]), None)
        if name is not None:
            return f"its {name} is {settings[name]!r}, which transformers does not know"
    return one_line(error)


def read_weights(
    source: Source, model: str, config: PreTrainedConfig, kind: type, dtype: DType, device: str
) -> tuple[PreTrainedModel, set[str]]:
    """Read a checkpoint's weights.

    Parameters
    ----------
    source, model
        As `read_config` takes them.
    config
        The checkpoint's configuration.
    kind
        Class to read them as, or the factory that chooses it.
    dtype
        Floating-point type.
    device
        Where quantised weights go, which cannot be moved afterwards.

    Returns
    -------
    whole
        The model.
    unexpected
        Names of tensors that the checkpoint holds and the model has no place for.

    Raises
    ------
    IngestError
        If weights are missing or cannot be read.
    """
    is_quantised = hasattr(config, "quantization_config")
    placed = {"device_map": device_map(device)} if is_quantised else {}
    try:
        whole, found = kind.from_pretrained(  # type: ignore[attr-defined]
            source.path,
            **source.arguments,
            **placed,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # its error does not name them: they are refused below
            trust_remote_code=False,
        )
    except (*_LOADING_ERRORS, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
        if lacks_memory(error):
            raise
        raise IngestError(f"cannot load the weights of model {model!r}: {_why(error, config)}") from error
    if not (is_quantised or "gguf_file" in source.arguments):
        _check_types(source, model)
    mismatched = sorted(found["mismatched_keys"])
    if mismatched:
        name, shape, configured = mismatched[0]
        raise IngestError(
            f"cannot load the weights of model {model!r}: {len(mismatched)} are of other shapes than its configuration "
            f"says, {name} the first: {tuple(shape)} in place of {tuple(configured)}"
        )
    missing = [key for key in sorted(found["missing_keys"]) if not OPTIONAL_WEIGHTS.search(key)]
    missing = [key for key in missing if not _is_computed(whole, key)]
    if missing:
        without = ":" if kind is AutoModel else " cannot predict tokens:"
        other = next((key for key in sorted(found["unexpected_keys"]) if key.endswith(f".{missing[0]}")), None)
        raise IngestError(
            f"model {model!r}{without} the checkpoint lacks {len(missing)} weights of {type(whole).__name__}, "
            f"{missing[0]} the first; they would have been random"
            + (f"; it holds {other}, under a prefix that its class does not have" if other else "")
        )
    for path, each in whole.named_modules() if is_quantised else ():
        weight = getattr(each, "weight", None) if type(each).__module__.startswith("bitsandbytes.") else None
        if weight is not None and weight.is_floating_point() and getattr(weight, "quant_state", None) is None:
            raise IngestError(
                f"model {model!r}: its configuration says that its weights are quantised, but {path}.weight is not"
            )
    return whole, set(found["unexpected_keys"])


def _check_types(source: Source, model: str) -> None:
    """Refuse weights that are whole numbers, which would be read as if they were the values they stand for."""
    for file in source.files("*.safetensors"):
        # A file that cannot be read is named when it is loaded.
        with contextlib.suppress(OSError, SafetensorError), safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                kind = tensors.get_slice(name).get_dtype()
                if name.endswith("weight") and re.fullmatch(r"[IU]\d+", kind):
                    raise IngestError(
                        f"model {model!r}: {name} holds whole numbers ({kind}), and its configuration does not say how "
                        "its weights are quantised"
                    )


def _is_computed(whole: PreTrainedModel, key: str) -> bool:
    """Return whether a weight is of sinusoidal positions, which some heads leave out where they are saved."""
    return "Sinusoidal" in type(whole.get_submodule(key.rpartition(".")[0])).__name__


def initialise(config: PreTrainedConfig, seed: int, label: str, dtype: DType) -> PreTrainedModel:
    """Draw a model's weights at random, on the CPU in float32.

    Raises
    ------
    IngestError
        If there is no such model, or no memory for it.
    """
    try:
        with torch.device("meta"):
            outline = AutoModel.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
        _check_memory(4 * sum(each.numel() for each in outline.parameters()), label)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            drawn: PreTrainedModel = AutoModel.from_config(  # type: ignore[no-untyped-call]
                config, dtype=torch.float32, trust_remote_code=False
            )
    except (*_LOADING_ERRORS, RuntimeError) as error:
        if isinstance(error, IngestError) or lacks_memory(error):
            raise
        raise IngestError(f"model {label} cannot be initialised: {_why(error, config)}") from error
    if dtype == "float32":
        return drawn
    # As a checkpoint would be read in this type: some weights stay float32.
    state = drawn.state_dict()
    read: PreTrainedModel = type(drawn).from_pretrained(
        None, config=drawn.config, state_dict=state, dtype=getattr(torch, dtype), trust_remote_code=False
    )
    return read


def _check_sizes(config: PreTrainedConfig, label: str) -> None:
    """Refuse sizes that no model has before anything is made of them."""
    text = config if config.is_encoder_decoder else config.get_text_config()
    names = _SIZES if expert_counts(text) else (*_SIZES, "intermediate_size")
    sizes = {name: size for name in names if isinstance(size := getattr(text, name, None), int)}
    for name, size in sizes.items():
        if size < 1:
            raise IngestError(f"model {label}: its configuration says that {name} is {size:,}")
    if sizes.get("num_hidden_layers", 1) > _MOST_LAYERS:
        raise IngestError(
            f"model {label}: its configuration says that num_hidden_layers is {sizes['num_hidden_layers']:,}; at most "
            f"{_MOST_LAYERS:,} can be loaded"
        )
    # Two bytes a weight at the least, in the embeddings alone.
    _check_memory(2 * sizes.get("hidden_size", 1) * sizes.get("vocab_size", 1), label)


def _check_memory(n_bytes: int, label: str) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if n_bytes > memory:
        raise IngestError(
            f"model {label} has at least {n_bytes / 1e9:,.1f} GB of weights by its configuration; this machine has "
            f"{memory / 1e9:,.1f} GB of memory"
        )
