"""A checkpoint's tokenizer, freed of what its files say about padding, truncation and chance."""

from collections import Counter
from collections.abc import Sequence
from typing import cast

from tokenizers import Encoding
from tokenizers.models import BPE, WordPiece
from torch import nn
from transformers import PreTrainedTokenizerBase, TokenizersBackend
from transformers.convert_slow_tokenizer import bytes_to_unicode

from ...errors import IngestError, one_line


def set_aside(tokenizer: PreTrainedTokenizerBase) -> None:
    """Have texts cut at their end, no merges dropped at random, and special tokens' names in a text be those tokens."""
    tokenizer.truncation_side = "right"
    tokenizer.split_special_tokens = False
    model = cast("TokenizersBackend", tokenizer).backend_tokenizer.model
    if isinstance(model, BPE):
        model.dropout = None


def longest_text(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the most tokens a text may have by the tokenizer's files, None if they do not say."""
    limit = tokenizer.model_max_length
    is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
    return int(limit) if is_number and 1 <= limit < 1 << 31 else None


def encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_tokens: int | None = None,  # length at which texts are cut, special tokens included; None to cut none
    are_targets: bool = False,  # whether the texts are what a decoder is to say, which some tokenizers mark otherwise
    with_special_tokens: bool = True,
) -> list[Encoding]:
    """Return what a fast tokenizer makes of texts: ids, the characters of each token, and which tokens were added."""
    try:
        encoded = tokenizer(
            **{"text_target" if are_targets else "text": list(texts)},
            add_special_tokens=with_special_tokens,
            padding=False,
            truncation=max_tokens is not None,
            max_length=max_tokens,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
    except Exception as error:
        # The library raises nothing more exact where a character is unknown and there is no token for what is unknown.
        if type(error) is not Exception:
            raise
        raise IngestError(f"the tokenizer cannot read one of the texts: {one_line(error)}") from error
    return cast("list[Encoding]", encoded.encodings)


def spelling(tokenizer: PreTrainedTokenizerBase, n_tokens: int) -> tuple[list[str | None], list[bool]]:
    r"""Return the text of each of the first tokens, without the mark of a word's beginning, and whether it is a piece.

    A piece begins with a letter or digit, or with a part of a character, and goes on with a word. Bytes that are no
    text by themselves are spelt as numbers, as ``\xe2``; the text of a number without a token is None.
    """
    backend = cast("TokenizersBackend", tokenizer).backend_tokenizer
    names = [backend.id_to_token(number) for number in range(n_tokens)]
    special = set(tokenizer.all_special_ids)
    continues = backend.model.continuing_subword_prefix if isinstance(backend.model, WordPiece) else None
    byte_of = {letter: byte for byte, letter in bytes_to_unicode().items()}  # type: ignore[no-untyped-call]
    marks = Counter(name[0] for name in names if name and name[0] in "Ġ▁")
    mark = max("Ġ▁", key=marks.__getitem__) if marks else None
    texts: list[str | None] = []
    is_piece = []
    for number, name in enumerate(names):
        text, begins, is_cut = name, True, False
        if name is not None and number not in special:
            prefix = continues or mark or ""
            text, begins = name.removeprefix(prefix), name.startswith(prefix) != bool(continues)
            if not continues and mark == "Ġ" and byte_of.keys() >= set(text):
                spelt = bytes(byte_of[letter] for letter in text) or b" "
                text = spelt.decode(errors="backslashreplace")
                is_cut = spelt.decode(errors="replace")[0] == "\ufffd"
            text = text or name
        texts.append(text)
        is_piece.append(not begins and text is not None and (text[:1].isalnum() or is_cut))
    return texts, is_piece


def embedding_layer(stack: nn.Module) -> nn.Module:
    """Return the module by which a stack embeds tokens."""
    find = getattr(stack, "get_input_embeddings", None)
    return cast("nn.Module", stack.get_submodule("embed_tokens") if find is None else find())


def n_embedded(stack: nn.Module) -> int:
    """Return for how many tokens a stack has embeddings."""
    embeddings = embedding_layer(stack)
    n_tokens = getattr(embeddings, "num_embeddings", None)  # I-BERT's quantised ones do not say
    return int(n_tokens or len(cast("Sequence[float]", embeddings.weight)))


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, n_tokens: int, label: str) -> None:
    """Refuse a tokenizer with less than half of the model's tokens: where files are missing, one is made up."""
    if 2 * len(tokenizer) < n_tokens:
        problem = f"model {label}: its tokenizer knows {len(tokenizer):,} tokens, the model {n_tokens:,}"
        raise IngestError(f"{problem}; if files are missing, name another tokenizer: --tokenizer")


def padding_id(tokenizer: PreTrainedTokenizerBase, stack: nn.Module) -> int:
    """Return the token that fills texts up to one length; it is masked, so any that the stack has will do."""
    token_id = tokenizer.pad_token_id
    return token_id if isinstance(token_id, int) and 0 <= token_id < n_embedded(stack) else 0
