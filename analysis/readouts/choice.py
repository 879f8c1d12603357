"""The choice: whether a language model prefers the right label word to the other ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import eq

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ...errors import AnalysisError
from ...ingest.activations.tokens import TokenizedTargets
from ...ingest.models.model import start_token
from ...ingest.models.tokenizers import encode
from .predictions import objective, positives, predict, predictions_sha256, with_head
from .readout import Advance, Readout, Texts

MOST_CANDIDATES = 50
"""Most label words of a family: with more they are no labels."""


@dataclass(frozen=True, slots=True)
class _Prompts:
    """Where the word of each prompt would begin. Prompts are the texts that are read, in the order they are run in."""

    position: NDArray[np.int64]  # of the logits of the word's first token [prompts]
    token_id: NDArray[np.int64]  # the first token of each word, in this prompt [prompts, words]
    targets: TokenizedTargets | None = None  # what a decoder reads beside the prompts


class ChoiceReadout(Readout):
    """Accuracy, on a function's positives, of the model's choice between the label words of its family.

    The candidates of a family are the targets of all texts of the corpus that have an instance labelled in it. Each
    text is a prompt, and its own target is the right word. The choice is right where the first token of that word is
    more probable than the first token of every other candidate: after the text, at its one mask, or at the beginning of
    what the decoder says. The model must be loaded with its head. Half a of the texts is not used.
    """

    kind = "choice"
    metric = "accuracy"

    def __init__(self, texts: Texts) -> None:
        self._texts, self.model = with_head(texts, self.kind)
        self.functions = texts.functions
        self.instance_id = texts.read.tokens.instance_id
        self.text = texts.read.tokens.text
        self.strata = positives(texts.read)
        target = _targets(texts)
        candidates = _candidates(texts, target)
        words = sorted({word for members in candidates.values() for word in members})
        place = {word: index for index, word in enumerate(words)}
        for word, encoding in zip(words, encode(texts.model.tokenizer, words, with_special_tokens=False), strict=True):
            if not encoding.ids:
                raise AnalysisError(f"target {word!r} of corpus {texts.corpus.name} has no token to choose")
        prompts = {"causal": _after_texts, "masked": _at_masks, "seq2seq": _at_beginnings}
        self._prompts = prompts[objective(texts.model)](texts, words)
        _check_predicted(self.model, self._prompts.token_id, words)
        # By family, the places of its candidates among the words; for each prompt, the place of its target.
        self._families = {family: np.array([place[word] for word in some]) for family, some in candidates.items()}
        self._right = np.array([place.get(target[text], -1) for text in texts.read.tokens.order.tolist()])
        self._check_first_tokens(words)
        self.chance = np.array([1 / len(candidates[family]) for family, _ in self.functions])
        self.sha256 = predictions_sha256(
            self.model, texts.read.tokens, self._prompts.targets,
            np.frombuffer("\n".join(self._families).encode(), np.uint8), *self._families.values(),
            self._right, self.strata, self._prompts.position, self._prompts.token_id,
        )  # fmt: skip

    @torch.inference_mode()
    def read(self, advance: Advance = None) -> NDArray[np.float32]:
        """Return 1 where the choice is right, 0 elsewhere; one row if all functions are of one family."""
        tokens, prompts = self._texts.read.tokens, self._prompts
        prompt = np.empty(int(tokens.order.max()) + 1, dtype=np.int64)
        prompt[tokens.order] = np.arange(tokens.n_texts)
        parts = []
        for batch, inputs, _ in self._texts.batches(tokens, prompts.targets, advance):
            chosen, rows = prompt[batch.texts], np.arange(len(batch.texts))
            places = (rows, prompts.position[chosen], prompts.token_id[chosen])
            parts.append(predict(self.model, inputs, *places, lambda logits, token_id: logits.gather(1, token_id)))
        logits = np.concatenate(parts)  # [prompts, words]
        values = {}
        for family, words in self._families.items():
            is_right = words == self._right[:, None]  # [prompts, candidates]
            others = np.where(is_right, -np.inf, logits[:, words]).max(1)
            own = np.where(is_right, logits[:, words], -np.inf).max(1)
            values[family] = (own > others)[prompt[self.text]].astype(np.float32)
        families = [family for family, _ in self.functions] if len(values) > 1 else values
        return np.stack([values[family] for family in families])

    def _check_first_tokens(self, words: Sequence[str]) -> None:
        """Refuse candidates of a family that begin with the same token."""
        model = self._texts.model
        for family, members in self._families.items():
            for token_id in self._prompts.token_id[:, members].tolist():
                word_of: dict[int, str] = {}
                for token, place in zip(token_id, members.tolist(), strict=True):
                    if (other := word_of.setdefault(token, words[place])) != words[place]:
                        problem = f"candidates {other!r} and {words[place]!r} of family {family} begin with the same"
                        problem += f" token, {model.tokenizer.convert_ids_to_tokens(token)!r}"
                        raise AnalysisError(f"{problem}, so {model.name} cannot choose between them")


def _targets(texts: Texts) -> list[str]:
    """Return the target of each text of the corpus."""
    targets = [(target or "").strip() for target in texts.corpus.targets()]
    if absent := targets.count(""):
        problem = "readout choice needs a label word as the target of every text"
        raise AnalysisError(f"{problem}; {absent:,} of {len(targets):,} texts of corpus {texts.corpus.name} have none")
    return targets


def _candidates(texts: Texts, targets: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return the sorted candidates of each family that is read."""
    instances = texts.corpus.instances()
    labels = texts.corpus.label_index(instances.instance_id)
    entry_text = instances.text[labels.instance]
    entry_family = np.array([family for family, _ in labels.functions])[labels.function]
    candidates = {}
    for family in sorted({family for family, _ in texts.functions}):
        words = sorted({targets[text] for text in np.unique(entry_text[entry_family == family]).tolist()})
        if not 1 < len(words) <= MOST_CANDIDATES:
            count = f"{len(words):,} distinct targets" if len(words) > 1 else f"one target, {words[0]!r},"
            problem = f"family {family} of corpus {texts.corpus.name} has {count} to choose from"
            raise AnalysisError(f"{problem}; a choice is between 2 to {MOST_CANDIDATES} label words")
        candidates[family] = words
    return candidates


def _check_predicted(head: PreTrainedModel, token_id: NDArray[np.int64], words: Sequence[str]) -> None:
    output = head.get_output_embeddings()  # type: ignore[no-untyped-call]
    n_tokens = None if output is None else len(output.weight)
    for word, most in zip(words, token_id.max(axis=0).tolist(), strict=True):
        if n_tokens is not None and most >= n_tokens:
            problem = f"target {word!r} begins with token {most:,} of the tokenizer"
            raise AnalysisError(f"{problem}; {type(head).__name__} predicts {n_tokens:,} tokens alone")


def _contents(texts: Texts) -> list[str]:
    """Return the content of the texts that are read, in the order in which they are run."""
    contents = list(texts.corpus.texts())
    return [contents[text] for text in texts.read.tokens.order.tolist()]


def _token_ids(texts: Texts, contents: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in encode(texts.model.tokenizer, contents)]


def _after_texts(texts: Texts, words: Sequence[str]) -> _Prompts:
    """Return prompts whose word follows the text, and a space: it begins where the text with and without it differ."""
    tokens, contents = texts.read.tokens, _contents(texts)
    prompts = _token_ids(texts, contents)
    lengths = np.diff(tokens.token_start)[tokens.order].tolist()
    if n_cut := sum(len(ids) > length for ids, length in zip(prompts, lengths, strict=True)):
        cut = f"{n_cut:,} of {tokens.n_texts:,} texts of corpus {texts.corpus.name} are cut"
        raise AnalysisError(f"readout choice reads what comes after a text, but {cut}; more tokens a text are needed")
    positions, token_id = [], []
    for word in words:
        joined = _token_ids(texts, [f"{text}{'' if text[-1:].isspace() else ' '}{word}" for text in contents])
        # The number of tokens that they have in common at their beginning.
        begin = [sum(takewhile(bool, map(eq, prompt, ids))) for prompt, ids in zip(prompts, joined, strict=True)]
        positions.append(begin)
        token_id.append([ids[place] for ids, place in zip(joined, begin, strict=True)])
    position = np.array(positions)  # [words, prompts]
    apart = np.argwhere(position != position[:1])
    if len(apart) or not position.all():
        prompt = int(apart[0, 1]) if len(apart) else int(np.argmin(position[0]))
        problem = f"text {tokens.order[prompt]} of corpus {texts.corpus.name} ends where no word can begin"
        raise AnalysisError(f"{problem}: {contents[prompt][-40:]!r}")
    return _Prompts(position[0] - 1, np.array(token_id).T.copy())


def _at_masks(texts: Texts, words: Sequence[str]) -> _Prompts:
    """Return prompts whose word stands in place of the text's mask."""
    tokens, tokenizer = texts.read.tokens, texts.model.tokenizer
    if tokenizer.mask_token_id is None:
        raise AnalysisError(f"readout choice needs a mask, which the tokenizer of model {texts.model.name} has not")
    contents = _contents(texts)
    position, order = [], tokens.order.tolist()
    for text in order:
        read = tokens.token_ids[tokens.token_start[text] : tokens.token_start[text + 1]]
        masks = np.flatnonzero(read == tokenizer.mask_token_id)
        if len(masks) != 1:
            problem = f"text {text} of corpus {texts.corpus.name} has {len(masks)} within {len(read)} tokens"
            raise AnalysisError(f"readout choice needs one mask {tokenizer.mask_token} in each text; {problem}")
        position.append(int(masks[0]))
    masked, token_id = _token_ids(texts, contents), []
    for word in words:
        filled = _token_ids(texts, [text.replace(str(tokenizer.mask_token), word) for text in contents])
        for text, before, ids, place in zip(order, masked, filled, position, strict=True):
            if ids[:place] != before[:place]:
                where = f"the mask of text {text} of corpus {texts.corpus.name}"
                raise AnalysisError(f"{where} stands where no word can begin")
        token_id.append([ids[place] for ids, place in zip(filled, position, strict=True)])
    return _Prompts(np.array(position), np.array(token_id).T.copy())


def _at_beginnings(texts: Texts, words: Sequence[str]) -> _Prompts:
    """Return prompts whose word the decoder begins with, after what stands before it in a target."""
    tokens = texts.read.tokens
    encoded = encode(texts.model.tokenizer, words, are_targets=True)
    begin = [encoding.special_tokens_mask.index(0) for encoding in encoded]
    token_id = [encoding.ids[place] for encoding, place in zip(encoded, begin, strict=True)]
    before = [start_token(texts.model), *encoded[0].ids[: begin[0]]]
    n_texts = len(tokens.token_start) - 1
    token_ids, starts = np.tile(np.array(before, dtype=np.int32), n_texts), np.arange(n_texts + 1) * len(before)
    ends = np.full(n_texts, len(before))
    start = np.zeros(n_texts, dtype=np.int64)
    targets = TokenizedTargets(token_ids=token_ids, token_start=starts, start=start, stop=ends, n_truncated=0)
    return _Prompts(ends[tokens.order] - 1, np.tile(np.array(token_id), (tokens.n_texts, 1)), targets)
