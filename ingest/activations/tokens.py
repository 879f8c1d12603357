"""A corpus as a model reads it: token ids, each instance as a span of tokens, and padded batches, of targets too."""

import dataclasses
import hashlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding
from torch import nn
from transformers import PreTrainedTokenizerBase

from ...errors import IngestError
from ...schema.vocabulary import SpecialTokens
from ..corpora.stored import StoredCorpus
from ..models.devices import moved
from ..models.model import Model, decoder_of
from ..models.tokenizers import encode, n_embedded, padding_id
from ..neurons.feed_forwards import Stack
from .pooling import Spans

_TOGETHER = 2048  # texts that are tokenized together


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts to run together."""

    texts: NDArray[np.int64]  # their rows in the corpus, longest first
    n_tokens: int  # their tokens, without padding
    first: int  # their first instance, in the order in which instances are run
    last: int  # one past their last


@dataclass(frozen=True, slots=True)
class TokenizedCorpus:
    """The tokens of a corpus: texts as rows in stored order, instances in the order they will be run."""

    token_ids: NDArray[np.int32]  # all texts' tokens, end to end
    token_start: NDArray[np.int64]  # text t's tokens are ``token_ids[token_start[t]:token_start[t + 1]]`` [texts + 1]
    # Texts with an instance to measure, from the longest to the shortest, so that batches hold little padding
    order: NDArray[np.int64]
    instance_id: NDArray[np.int64]  # the instance, as stored [instances]
    text: NDArray[np.int64]  # its text [instances]
    start: NDArray[np.int32]  # its first token within the text [instances]
    stop: NDArray[np.int32]  # one past its last [instances]
    n_truncated: int  # texts that were cut
    n_dropped: int  # instances without a token: beyond the cut, or made of characters the tokenizer ignores
    n_special: int  # instances with special tokens among theirs

    @property
    def n_instances(self) -> int:
        """Number of instances to measure."""
        return len(self.instance_id)

    @property
    def n_texts(self) -> int:
        """Number of texts to run."""
        return len(self.order)

    @property
    def n_tokens(self) -> int:
        """Number of tokens to run, special tokens included."""
        return int(np.diff(self.token_start)[self.order].sum())

    def only(self, texts: NDArray[np.int64]) -> "TokenizedCorpus":
        """Return the corpus with only some of its texts to run, and their instances."""
        kept = np.isin(self.text, texts)
        instances = {name: getattr(self, name)[kept] for name in ("instance_id", "text", "start", "stop")}
        return dataclasses.replace(self, order=self.order[np.isin(self.order, texts)], **instances)

    def sha256(self) -> str:
        """Return the digest of the tokens and of the instances' spans."""
        return arrays_sha256(self.token_ids, self.token_start, self.instance_id, self.text, self.start, self.stop)

    def batches(
        self, batch_tokens: int, *, batch_instances: int | None = None, of_equal_lengths: bool = False
    ) -> Iterator[Batch]:
        """Cut the texts into batches of at most `batch_tokens` tokens, padding included, or of one longer text.

        A text with more than `batch_instances` instances is alone too; None: any number of instances. With
        `of_equal_lengths`, no text is padded, for models in which a text's states depend on its padding.
        """
        lengths = np.diff(self.token_start)[self.order]
        # Instances lie in the order of their texts, so each batch's are one range.
        n_instances = np.bincount(self.text, minlength=len(self.token_start) - 1)[self.order]
        last_instance = np.cumsum(n_instances)
        begin = 0
        while begin < self.n_texts:
            end = min(begin + max(1, batch_tokens // int(lengths[begin])), self.n_texts)
            first = int(last_instance[begin] - n_instances[begin])
            if batch_instances is not None:
                most = first + batch_instances
                end = max(begin + 1, min(end, int(np.searchsorted(last_instance, most, "right"))))
            if of_equal_lengths:
                end = min(end, begin + int(np.count_nonzero(lengths[begin:end] == lengths[begin])))
            yield Batch(self.order[begin:end], int(lengths[begin:end].sum()), first, int(last_instance[end - 1]))
            begin = end


@dataclass(frozen=True, slots=True)
class TokenizedTargets:
    """What the decoder reads for each text of a corpus, in stored order: the start token, then the target."""

    token_ids: NDArray[np.int32]  # all texts' decoder inputs, end to end
    token_start: NDArray[np.int64]  # text t's are ``token_ids[token_start[t]:token_start[t + 1]]`` [texts + 1]
    start: NDArray[np.int64]  # first token of the target within its text's [texts]
    stop: NDArray[np.int64]  # one past its last [texts]
    n_truncated: int  # targets that were cut

    def sha256(self) -> str:
        """Return the digest of these tokens and spans."""
        return arrays_sha256(self.token_ids, self.token_start, self.start, self.stop)


def arrays_sha256(*arrays: NDArray[Any]) -> str:
    """Return the SHA-256 of the values of some arrays, one after the other, as hex digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def tokenize(
    corpus: StoredCorpus, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int, special_tokens: SpecialTokens = "drop"
) -> TokenizedCorpus:
    """Tokenize a corpus by a fast tokenizer, and put its texts and instances in the order to run them.

    Texts are cut at `max_tokens`, special tokens included. Those around a whole text are among its tokens if
    `special_tokens` is keep; a text without a token of its own is no instance in any case.
    """
    n_special = tokenizer.num_special_tokens_to_add()
    if max_tokens <= n_special:
        raise IngestError(f"max_tokens is {max_tokens}; the tokenizer alone adds {n_special} to every text")
    spans = corpus.instances()
    with_offsets = not np.isnan(spans.start_char).all()
    start, stop = np.zeros((2, len(spans.text)), dtype=np.int32)
    has_special = np.zeros(len(spans.text), dtype=np.bool_)
    token_ids: list[NDArray[np.int32]] = []
    n_truncated = 0
    encodings = _encodings(corpus.texts(), partial(encode, tokenizer, max_tokens=max_tokens))
    for text, (encoding, content) in enumerate(encodings):
        token_ids.append(np.array(encoding.ids, dtype=np.int32))
        n_truncated += bool(encoding.overflowing)
        if not len(content):
            continue
        if content[-1] - content[0] >= len(content):
            raise IngestError("the tokenizer puts special tokens inside a text, not around it alone")
        instances = slice(*np.searchsorted(spans.text, (text, text + 1)).tolist())
        whole = int(content[0]), int(content[-1]) + 1
        if special_tokens == "keep":
            whole = 0, len(encoding.ids)
            has_special[instances] = len(encoding.ids) > len(content)
        start[instances], stop[instances] = whole
        if with_offsets:  # an instance has the tokens that overlap its characters
            offsets = np.array(encoding.offsets, dtype=np.int64)[content]
            start_char, end_char = spans.start_char[instances], spans.end_char[instances]
            # Byte-level tokens of one character may share its offsets; both sequences never decrease.
            first = np.searchsorted(offsets[:, 1], start_char, side="right")
            last = np.searchsorted(offsets[:, 0], end_char, side="left")
            is_whole = np.isnan(start_char)
            start[instances] = np.where(is_whole, whole[0], content[0] + first)
            stop[instances] = np.where(is_whole, whole[1], content[0] + np.maximum(last, first))
            has_special[instances] &= is_whole
    lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
    kept = np.flatnonzero(stop > start)
    if not len(kept):
        raise IngestError(f"corpus {corpus.name}: no instance has a token to measure (cut at {max_tokens} tokens)")
    kept = kept[np.argsort(-lengths[spans.text[kept]], kind="stable")]  # one text's, and texts of one length, as stored
    text_of = spans.text[kept]
    return TokenizedCorpus(
        token_ids=np.concatenate(token_ids),
        token_start=np.concatenate([[0], np.cumsum(lengths)]),
        order=text_of[np.diff(text_of, prepend=-1) != 0],
        instance_id=spans.instance_id[kept],
        text=text_of,
        start=start[kept],
        stop=stop[kept],
        n_truncated=n_truncated,
        n_dropped=len(start) - len(kept),
        n_special=int(has_special[kept].sum()),
    )


def tokenize_targets(
    corpus: StoredCorpus,
    tokenizer: PreTrainedTokenizerBase,
    *,
    start_token: int,
    max_tokens: int,
    special_tokens: SpecialTokens = "drop",
) -> TokenizedTargets:
    """Tokenize the targets of a corpus in which every text has one; what the decoder starts with is `start_token`.

    Decoder inputs are cut at `max_tokens`. With `special_tokens` keep, the span of a target is all that the decoder
    reads, from the start token on.
    """
    token_ids: list[NDArray[np.int32]] = []
    start: list[int] = []
    stop: list[int] = []
    n_truncated = 0
    targets = (target or "" for target in corpus.targets())
    for encoding, content in _encodings(targets, partial(encode, tokenizer, are_targets=True)):
        if not len(content) or content[0] + 1 >= max_tokens:
            raise IngestError(f"corpus {corpus.name}: the target of text {len(start)} has no token to measure")
        # What stands after the last of the target is only ever predicted, never read.
        stop.append(min(int(content[-1]) + 2, max_tokens))
        n_truncated += content[-1] + 2 > max_tokens
        start.append(0 if special_tokens == "keep" else int(content[0]) + 1)
        token_ids.append(np.array([start_token, *encoding.ids], dtype=np.int32)[: stop[-1]])
    return TokenizedTargets(
        token_ids=np.concatenate(token_ids),
        token_start=np.concatenate([[0], np.cumsum([len(ids) for ids in token_ids])]),
        start=np.array(start, dtype=np.int64),
        stop=np.array(stop, dtype=np.int64),
        n_truncated=n_truncated,
    )


def check_embedded(
    tokens: TokenizedCorpus | TokenizedTargets, tokenizer: PreTrainedTokenizerBase, stack: nn.Module, texts: str
) -> None:
    """Raise `IngestError` if a stack has no embedding for one of these tokens; `texts` names the texts they are of."""
    n_tokens = n_embedded(stack)
    beyond = np.flatnonzero(tokens.token_ids >= n_tokens)
    if len(beyond):
        token_id = int(tokens.token_ids[beyond[0]])
        text = np.searchsorted(tokens.token_start, beyond[0], side="right") - 1
        token = f"{tokenizer.convert_ids_to_tokens(token_id)!r}, number {token_id:,} of the tokenizer"
        limit = f"{type(stack).__name__} has embeddings for {n_tokens:,} tokens alone"
        raise IngestError(f"{texts}: text {text} holds the token {token}, but {limit}")


def collate(
    model: Model, tokens: TokenizedCorpus, targets: TokenizedTargets | None, batch: Batch
) -> tuple[dict[str, Any], dict[Stack, Spans]]:
    """Return the arguments of the model for a batch, and where its instances are within them, by stack."""
    inputs = _padded(tokens, batch.texts, padding_id(model.tokenizer, model.module))
    instances = slice(batch.first, batch.last)
    text = tokens.text[instances]
    rows = np.cumsum(np.diff(text, prepend=text[0]) != 0)  # instances lie in the order of their texts
    start, stop = tokens.start[instances], tokens.stop[instances]
    spans: dict[Stack, Spans] = {model.parts[0].stack: Spans(rows, start, stop, inputs["input_ids"].shape)}
    if targets is not None:
        decoder_inputs = _padded(targets, batch.texts, padding_id(model.tokenizer, decoder_of(model)))
        inputs |= {f"decoder_{name}": values for name, values in decoder_inputs.items()}
        spans["decoder"] = Spans(rows, targets.start[text], targets.stop[text], inputs["decoder_input_ids"].shape)
    accepted = inspect.signature(model.module.forward).parameters
    device = next(model.module.parameters()).device
    tensors = {name: torch.from_numpy(values) for name, values in inputs.items() if name in accepted}
    arguments: dict[str, Any] = {"use_cache": False} if "use_cache" in accepted else {}
    return arguments | {name: moved(tensor, device) for name, tensor in tensors.items()}, spans


def _encodings(
    texts: Iterator[str], encode_some: Callable[[list[str]], list[Encoding]]
) -> Iterator[tuple[Encoding, NDArray[np.int64]]]:
    """Tokenize texts some thousands at a time; yield each, and which of its tokens are not special ones around it."""
    while some := list(itertools.islice(texts, _TOGETHER)):
        for encoding in encode_some(some):
            yield encoding, np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)


def _padded(
    tokens: TokenizedCorpus | TokenizedTargets, texts: NDArray[np.int64], pad: int
) -> dict[str, np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
    """Return token ids and attention mask of some texts, padded on the right [texts, tokens]."""
    begin, end = tokens.token_start[texts], tokens.token_start[texts + 1]
    is_token = np.arange((end - begin).max()) < (end - begin)[:, None]
    input_ids = np.full((len(texts), is_token.shape[1]), pad, dtype=np.int64)
    pieces = zip(begin.tolist(), end.tolist(), strict=True)
    input_ids[is_token] = np.concatenate([tokens.token_ids[first:last] for first, last in pieces])
    return {"input_ids": input_ids, "attention_mask": is_token.astype(np.int64)}
