"""Fixtures for all tests."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Read by the Hugging Face libraries when they are first imported: no test may reach for the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
# A shell starts what it runs in the background with SIGINT ignored, which processes of tests would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

WORDS = (
    *("the", "a", "cat", "dog", "bird", "fish", "sat", "ran", "flew", "swam", "on", "under", "over", "near", "mat"),
    *("tree", "house", "river", "red", "blue", "old", "new", "quick", "lazy", "bank", "money", "water", "light"),
    *("stone", "green", "city", "king", "queen", "song"),
)

HIDDEN, FEED_FORWARD, LAYERS, HEADS = 32, 64, 2, 4


_LONG_FOLDERS = {"architectures", "demo", "examples", "kills"}
# They take a minute or more, the longest first: whoever begins one last is waited for.
_LONGEST = (
    *("test_demo.py", "test_kills.py", "test_pages.py", "test_emergent_modularity.py", "test_differential.py"),
    *("test_ray.py", "test_first_evening.py", "test_base_install.py", "test_benchmarks.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first; mark as long what loads a model, or lies in a folder whose tests do."""
    order = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in _LONG_FOLDERS or not {"tiny_model", "shared"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("long")


@pytest.fixture(scope="session", autouse=True)
def _no_waits_for_the_disk() -> Iterator[None]:
    """Let no sync wait for the disk: what it has when the power fails is nothing that a test sees."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", os.fstat)  # which fails for a file that is not open as well
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of corpora and published results beside the repository; skip where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "corpora").is_dir():
        pytest.skip("no shared corpora and reference results beside the repository")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a model's kind to a folder with a tiny random one and its fast tokenizer.

    Kinds: bert, roberta, llama, gpt2, t5 (ReLU), t5-gated, xlnet. Two layers, 32 wide, 64 neurons a layer; olmoe (2 of
    4 experts a token) and switch (1 of 4, with one dense layer), 64 neurons an expert. The weights are drawn ten times
    wider than usual, so that texts differ in what they activate.
    """
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = _save(kind, tmp_path_factory.mktemp("models") / f"tiny-{kind}")
        return made[kind]

    return make


def _save(kind: str, folder: Path) -> Path:
    import torch
    import transformers

    width = {"hidden_size": HIDDEN, "intermediate_size": FEED_FORWARD}
    depth = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "initializer_range": 0.2}
    t5 = {"d_model": HIDDEN, "d_ff": FEED_FORWARD, "d_kv": 8, "num_layers": LAYERS, "num_heads": HEADS}
    byte_level = dict.fromkeys(("roberta", "llama", "gpt2", "olmoe"), _byte_level)
    tokenizer = {"bert": _wordpiece, **byte_level}.get(kind, _unigram)()
    size = tokenizer.get_vocab_size()
    special: dict[str, str] = {}
    match kind:
        case "bert":
            config = transformers.BertConfig(vocab_size=size, max_position_embeddings=64, **width, **depth)
            special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        case "roberta":
            config = transformers.RobertaConfig(
                vocab_size=size, max_position_embeddings=66, pad_token_id=1, **width, **depth
            )
            special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
        case "llama":
            config = transformers.LlamaConfig(vocab_size=size, max_position_embeddings=64, **width, **depth)
            special = {"bos_token": "<s>", "eos_token": "</s>"}
        case "gpt2":
            config = transformers.GPT2Config(
                vocab_size=size, n_positions=64, n_embd=HIDDEN, n_inner=FEED_FORWARD, n_layer=LAYERS, n_head=HEADS,
                initializer_range=0.2, bos_token_id=0, eos_token_id=0,
            )  # fmt: skip
            special = {"eos_token": "</s>"}
        case "t5" | "t5-gated":
            config = transformers.T5Config(
                vocab_size=size, initializer_factor=2.0,
                feed_forward_proj="relu" if kind == "t5" else "gated-gelu", **t5,
            )  # fmt: skip
            special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
        case "xlnet":
            config = transformers.XLNetConfig(
                vocab_size=size, d_model=HIDDEN, d_inner=FEED_FORWARD, n_layer=LAYERS, n_head=HEADS,
                initializer_range=0.2,
            )  # fmt: skip
            special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
        case "olmoe":
            config = transformers.OlmoeConfig(
                vocab_size=size, max_position_embeddings=64, num_experts=4, num_experts_per_tok=2, eos_token_id=2,
                **width, **depth,
            )  # fmt: skip
            special = {"bos_token": "<s>", "eos_token": "</s>"}
        case "switch":
            config = transformers.SwitchTransformersConfig(
                vocab_size=size, initializer_factor=2.0, num_experts=4, expert_capacity=3, num_sparse_encoder_layers=1,
                num_sparse_decoder_layers=1, num_decoder_layers=LAYERS, decoder_start_token_id=0, **t5,
            )  # fmt: skip
            special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
        case _:
            raise ValueError(kind)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = transformers.AutoModel.from_config(config)
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def _wordpiece() -> "Tokenizer":
    """Return BERT's kind of tokenizer: lower case, words, and words spelt out in pieces."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = [chr(code) for code in range(33, 127)] + list("éüßñ你好")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    return tokenizer


def _byte_level() -> "Tokenizer":
    """Return GPT-2's kind of tokenizer: bytes, merged; here with <s> in front."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<s>", "<pad>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def _unigram() -> "Tokenizer":
    """Return T5's kind of tokenizer: word pieces with the space in front, </s> behind."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = [chr(code) for code in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(f"▁{word}", -3.0) for word in WORDS] + [(letter, -6.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer
