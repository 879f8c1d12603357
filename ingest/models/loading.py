"""Reading a checkpoint's configuration, tokenizer and weights through transformers, or saying why it cannot be read."""

import contextlib
import logging
import os
import pickle
import re
import struct
from collections.abc import Iterator
from typing import Any, cast

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import AutoModel, FineGrainedFP8Config, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto as auto
from transformers.utils import logging as transformers_logging
from transformers.utils.peft_utils import find_adapter_config_file

from ...errors import IngestError, one_line
from ...schema.vocabulary import DType
from ..neurons.feed_forwards import Stack
from ..neurons.layers import expert_counts
from .checkpoint import Source
from .devices import lacks_memory
from .tensors import OPTIONAL_WEIGHTS
from .tokenizers import set_aside

# What transformers raises for files that are absent, malformed or of another kind.
_LOADING_ERRORS = (
    *(OSError, ValueError, LookupError, ImportError, AttributeError, TypeError, ArithmeticError, RuntimeError),
    *(AssertionError, struct.error, StrictDataclassError, SafetensorError, pickle.UnpicklingError, EOFError),
)
# What is said in place of a message with a phrase, which names nothing, or advises to run code of the checkpoint.
_REASONS = {
    "above report": "weights are missing or of other shapes than its configuration says",
    "weights_only": "its torch file is damaged, or holds more than tensors",
    "trust_remote_code": "it needs Python code of its own, which is never run",
    "backend tokenizer": "there is none, or not all of its files; name another: --tokenizer",
}
# Sizes that are at least 1 in every model; where a configuration has another name for one, this is an alias.
_SIZES = ("hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads")
_MOST_LAYERS = 10_000  # far more layers than any model has, and few enough to be laid out without memory in a minute


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep libraries' progress bars and reports off the terminal: jobs and errors speak for themselves."""
    quantiser = logging.getLogger("bitsandbytes")
    with contextlib.ExitStack() as undo:
        undo.callback(quantiser.setLevel, quantiser.level)
        undo.callback(transformers_logging.set_verbosity, transformers_logging.get_verbosity())
        if transformers_logging.is_progress_bar_enabled():
            undo.callback(transformers_logging.enable_progress_bar)
        quantiser.setLevel(logging.ERROR)
        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        yield


def read_config(source: Source, *, with_weights: bool) -> PreTrainedConfig:
    """Return a checkpoint's configuration; refuse sizes that no model has, and an adapter beside weights to be read."""
    source.check_fetched(with_weights=with_weights)
    if with_weights and "gguf_file" not in source.arguments:
        adapter = None
        with contextlib.suppress(OSError, ValueError):  # what is read next says why
            adapter = find_adapter_config_file(source.path, revision=source.arguments.get("revision"))
        if adapter is not None:
            problem = "it holds an adapter (adapter_config.json), which is not applied"
            remedy = "merge it into its base model and save that, or take the adapter's files away"
            raise IngestError(f"cannot load model {source.name!r}: {problem}; {remedy}")
    config: PreTrainedConfig = _read(transformers.AutoConfig, source, "model", "configuration")
    _check_sizes(config, source.name)
    return config


def read_tokenizer(source: Source, config: PreTrainedConfig, other: Source | None = None) -> PreTrainedTokenizerBase:
    """Return a checkpoint's tokenizer, or the `other` that is named for it; raise `IngestError` unless it is fast."""
    if other is None:
        tokenizer = _read(transformers.AutoTokenizer, source, "model", "tokenizer")
    else:
        other.check_fetched(with_weights=False, noun="tokenizer")
        tokenizer = _read(transformers.AutoTokenizer, other, "tokenizer", "files", config=config)
    if not getattr(tokenizer, "is_fast", False):
        kind = type(tokenizer).__name__
        raise IngestError(f"model {source.name}: its tokenizer {kind} is not a fast one, which spans need")
    set_aside(tokenizer)
    return tokenizer  # type: ignore[no-any-return]


def read_weights(
    source: Source, config: PreTrainedConfig, kind: type, dtype: DType, device: str
) -> tuple[PreTrainedModel, set[str]]:
    """Return a checkpoint as a model of class `kind`, and the names of its tensors that have no place in that."""
    is_quantised = hasattr(config, "quantization_config")
    placed: dict[str, Any] = {"device_map": "auto" if device == "split" else {"": device}} if is_quantised else {}
    if is_quantised and config.quantization_config.get("quant_method") == "fp8":
        # On a CPU, transformers reads these as the numbers they stand for; on a GPU too, so that both measure the same.
        read = {**config.quantization_config, "dequantize": True}
        placed["quantization_config"] = FineGrainedFP8Config(**read)
    with _explained(f"cannot load the weights of model {source.name!r}", config):
        whole, report = kind.from_pretrained(  # type: ignore[attr-defined]
            source.path,
            **source.arguments,
            **placed,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # its error does not name them: they are refused below
            trust_remote_code=False,
        )
    if is_quantised:
        for path, module in whole.named_modules():
            weight = getattr(module, "weight", None) if type(module).__module__.startswith("bitsandbytes.") else None
            if weight is not None and weight.is_floating_point() and getattr(weight, "quant_state", None) is None:
                problem = f"model {source.name!r}: its configuration says that its weights are quantised"
                raise IngestError(f"{problem}, but {path}.weight is not")
    elif "gguf_file" not in source.arguments:
        _check_files(whole, source)
    mismatched = sorted(report["mismatched_keys"])
    if mismatched:
        name, shape, configured = mismatched[0]
        first = f"{name} the first: {tuple(shape)} in place of {tuple(configured)}"
        problem = f"{len(mismatched)} are of other shapes than its configuration says, {first}"
        raise IngestError(f"cannot load the weights of model {source.name!r}: {problem}")
    absent = sorted(report["missing_keys"])
    holders = {key: type(whole.get_submodule(key.rpartition(".")[0])).__name__ for key in absent}
    # Sinusoidal positions are computed, and some heads leave them out where they are saved.
    missing = [key for key in absent if not OPTIONAL_WEIGHTS.search(key) and "Sinusoidal" not in holders[key]]
    if missing:
        without = ":" if kind in (AutoModel, body_class(config)) else " cannot predict tokens:"
        other = next((key for key in sorted(report["unexpected_keys"]) if key.endswith(f".{missing[0]}")), None)
        problem = f"the checkpoint lacks {len(missing)} weights of {type(whole).__name__}, {missing[0]} the first"
        held = f"; it holds {other}, under a prefix that its class does not have" if other else ""
        raise IngestError(f"model {source.name!r}{without} {problem}; they would have been random{held}")
    return whole, set(report["unexpected_keys"])


def initialise(config: PreTrainedConfig, seed: int, label: str, dtype: DType) -> PreTrainedModel:
    """Draw a model's weights on the CPU in float32, and return it as `dtype`; raise `IngestError` if that cannot be."""
    with _explained(f"model {label} cannot be initialised", config):
        with torch.device("meta"):
            outline = AutoModel.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
        _check_memory(4 * sum(weight.numel() for weight in outline.parameters()), label)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            drawn: PreTrainedModel = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)  # type: ignore[no-untyped-call]
    if dtype == "float32":
        return drawn
    # As a checkpoint would be read in this type: some weights stay float32.
    settings = {"config": drawn.config, "state_dict": drawn.state_dict(), "dtype": getattr(torch, dtype)}
    return type(drawn).from_pretrained(None, **settings, trust_remote_code=False)


def _read(kind: type, source: Source, noun: str, part: str, **more: object) -> Any:  # noqa: ANN401 - untyped factories
    where = "no such folder here, and the hub did not give it; a name in a store is not enough, name the files by "
    where = f"folder {source.path}" if source.is_local else f"{where}their folder"
    with _explained(f"cannot load {noun} {source.name!r} ({where}): its {part} cannot be read"):
        return kind.from_pretrained(source.path, **source.arguments, **more, trust_remote_code=False)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _explained(what: str, config: PreTrainedConfig | None = None) -> Iterator[None]:
    """Turn errors of transformers into one line, `what` and why; a lack of memory is explained elsewhere."""
    try:
        yield
    except Exception as error:
        # The library of tokenizers raises nothing more exact than an Exception for a file that it cannot read.
        is_explained = isinstance(error, IngestError) or lacks_memory(error)
        if is_explained or not (isinstance(error, _LOADING_ERRORS) or type(error) is Exception):
            raise
        raise IngestError(f"{what}: {_why(error, config)}") from error


def _why(error: BaseException, config: PreTrainedConfig | None) -> str:
    for phrase, why in _REASONS.items():
        if phrase in str(error):
            return why
    if config is not None and isinstance(error, KeyError):
        settings = vars(config.get_text_config())  # it may name an activation function that is none
        name = next((name for name, value in settings.items() if value == error.args[0]), None)
        if name is not None:
            return f"its {name} is {settings[name]!r}, which transformers does not know"
    return one_line(error)


def _check_files(whole: PreTrainedModel, source: Source) -> None:
    """Refuse weights that are whole numbers, read as if they were values, and two of which one would be read."""
    for file in source.files("*.safetensors"):
        # A file that cannot be read is named when it is loaded.
        with contextlib.suppress(OSError, SafetensorError), safe_open(file, "pt") as tensors:
            names = set(tensors.keys())
            for name in sorted(names):
                dtype = tensors.get_slice(name).get_dtype()
                if name.endswith("weight") and re.fullmatch(r"[IU]\d+", dtype):
                    problem = f"model {source.name!r}: {name} holds whole numbers ({dtype})"
                    raise IngestError(f"{problem}, and its configuration does not say how its weights are quantised")
                prefixed = f"{whole.base_model_prefix}.{name}"
                is_twice = prefixed in names and not OPTIONAL_WEIGHTS.search(name)
                if is_twice and not torch.equal(tensors.get_tensor(name), tensors.get_tensor(prefixed)):
                    problem = f"model {source.name!r}: {file.name} holds one weight twice"
                    raise IngestError(f"{problem}, as {name} and {prefixed}, with different values")


def _check_sizes(config: PreTrainedConfig, label: str) -> None:
    """Refuse sizes that no model has before anything is made of them."""
    text = config if config.is_encoder_decoder else config.get_text_config()
    names = _SIZES if expert_counts(text) else (*_SIZES, "intermediate_size")
    sizes = {name: size for name in names if isinstance(size := getattr(text, name, None), int)}
    for name, size in sizes.items():
        if size < 1:
            raise IngestError(f"model {label}: its configuration says that {name} is {size:,}")
    if sizes.get("num_hidden_layers", 1) > _MOST_LAYERS:
        problem = f"model {label}: its configuration says that num_hidden_layers is {sizes['num_hidden_layers']:,}"
        raise IngestError(f"{problem}; at most {_MOST_LAYERS:,} can be loaded")
    # Two bytes a weight at the least, in the embeddings alone.
    _check_memory(2 * sizes.get("hidden_size", 1) * sizes.get("vocab_size", 1), label)


def _check_memory(n_bytes: int, label: str) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if n_bytes > memory:
        problem = f"model {label} has at least {n_bytes / 1e9:,.1f} GB of weights by its configuration"
        raise IngestError(f"{problem}; this machine has {memory / 1e9:,.1f} GB of memory")


# How transformers' classes with a head over the vocabulary end; other mappings' classes end otherwise.
_HEADS = ("ForCausalLM", "ForMaskedLM", "ForConditionalGeneration", "ForSeq2SeqLM", "LMHeadModel")


def body_class(config: PreTrainedConfig) -> type:
    """Return what reads a checkpoint without a head: `AutoModel`, or the class of an encoder saved alone."""
    names = (name for name in config.architectures or () if name.endswith("EncoderModel"))
    return next((getattr(transformers, name) for name in names if hasattr(transformers, name)), AutoModel)


def head_class(config: PreTrainedConfig, label: str) -> type[PreTrainedModel]:
    """Return the class with a head that a configuration names, else that of its kind; `IngestError` if none has one."""
    names = [name for name in config.architectures or () if name.endswith(_HEADS) and hasattr(transformers, name)]
    if names:
        return cast("type[PreTrainedModel]", getattr(transformers, names[0]))
    mappings = [auto.MODEL_FOR_MASKED_LM_MAPPING, auto.MODEL_FOR_CAUSAL_LM_MAPPING]
    for mapping in [auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING] if config.is_encoder_decoder else mappings:
        if (kind := mapping.get(type(config), None)) is not None:
            return cast("type[PreTrainedModel]", kind)
    problem = f"transformers has no language-model head for {type(config).__name__}"
    raise IngestError(f"model {label} cannot predict tokens: {problem}")


def body_of(head: PreTrainedModel) -> PreTrainedModel:
    """Return the body of a model with a head, made of the same modules, as it would have been loaded without one."""
    if head.base_model is not head:
        return cast("PreTrainedModel", head.base_model)
    # T5 and its kin hold their stacks beside their head, just as their class without a head holds them.
    with torch.device("meta"):
        body: PreTrainedModel = AutoModel.from_config(head.config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    for name, _ in list(body.named_children()):
        setattr(body, name, getattr(head, name))
    return body


def check_head(head: PreTrainedModel, stack: Stack, label: str) -> None:
    """Refuse a head that predicts the next token where its body sees that, or masked tokens where it sees one side."""
    config, kind = type(head.config), cast("object", type(head))
    masked = auto.MODEL_FOR_MASKED_LM_MAPPING.get(config, None)
    causal = auto.MODEL_FOR_CAUSAL_LM_MAPPING.get(config, None)
    if masked is causal:
        return
    problem = f"model {label} cannot predict tokens: its head {type(head).__name__} predicts"
    if stack == "encoder" and kind is causal:
        raise IngestError(f"{problem} the next token, but its body attends both ways")
    if stack == "decoder" and kind is masked:
        raise IngestError(f"{problem} masked tokens, but its body attends to the left alone")
