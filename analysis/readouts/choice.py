"""The choice: whether a language model prefers the right label word to the other ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ...errors import AnalysisError
from ...ingest.activations.batches import collate
from ...ingest.activations.targets import TokenizedTargets
from ...ingest.activations.tokens import arrays_sha256
from ...ingest.models.model import start_token
from ...ingest.models.tokenizers import encode
from ...schema.vocabulary import ReadoutKind
from .predictions import head_of, head_sha256, objective, predict
from .texts import Subject

__all__ = ["MOST_CANDIDATES", "ChoiceReadout"]

MOST_CANDIDATES = 50
"""Most label words of a family: with more they are no labels."""


@dataclass(frozen=True, slots=True)
class _Prompts:
    """The texts that are read, in the order they are run, and where each one's word would begin.

    Parameters
    ----------
    text
        Their rows in the corpus. [prompts]
    position
        Where the logits of the word's first token are. [prompts]
    token_id
        The first token of each word, in this prompt. [prompts, words]
    targets
        What a decoder reads beside them.
    """

    text: NDArray[np.int64]
    position: NDArray[np.int64]
    token_id: NDArray[np.int64]
    targets: TokenizedTargets | None


class ChoiceReadout:
    """Accuracy of a prompt's label word, its text's target, against the other words of a family.

    The candidates of a family are the targets of all texts of the corpus that have an instance labelled in it. The
    choice is right where the first token of the target alone is the most probable among the candidates' first tokens:

    - of a causal model what comes after the text, as a word of its own: what the tokenizer makes of text, a space if it
      ends in none, and word;
    - of a masked model what stands at the text's one mask;
    - of an encoder-decoder what its decoder begins with.

    A function's readout is the accuracy on its positives, each instance counting the same.

    Parameters
    ----------
    subject
        The model, loaded with its head, and the texts. Half a is not needed.

    Raises
    ------
    AnalysisError
        If the model has no head; if a text has no target, or no place for it; if a family has one candidate, or more
        than `MOST_CANDIDATES`; or if two of them begin with the same token.
    """

    kind: ReadoutKind = "choice"
    metric: str = "accuracy"
    is_loss: bool = False
    n_fitted_texts: int | None = None

    def __init__(self, subject: Subject) -> None:
        self.model = head_of(subject.model, self.kind)
        self._loaded = replace(subject.model, module=self.model)
        self._subject = subject
        self.functions: tuple[tuple[str, str], ...] = subject.functions
        self.instance_id: NDArray[np.int64] = subject.read.tokens.instance_id
        self.text: NDArray[np.int64] = subject.read.tokens.text
        self.strata: NDArray[np.int8] = np.where(subject.read.labels == 1, 1, -1).astype(np.int8)
        target = _targets(subject)
        candidates = _candidates(subject, target)
        words = sorted({word for some in candidates.values() for word in some})
        place = {word: index for index, word in enumerate(words)}
        _check_words(subject, words)
        match objective(subject.model):
            case "causal":
                self._prompts = _after_texts(subject, words)
            case "masked":
                self._prompts = _at_masks(subject, words)
            case "seq2seq":
                self._prompts = _of_decoder(subject, words)
        _check_predicted(self.model, self._prompts.token_id, words)
        # Of each family, its candidates among the words; of each prompt, its target among them.
        self._families = {family: np.array([place[word] for word in some]) for family, some in candidates.items()}
        self._right = np.array([place.get(target[text], -1) for text in self._prompts.text.tolist()])
        self._check_first_tokens(words)
        self._sha256 = self._digest()

    def sha256(self) -> str:
        """Return the digest of all that decides what it reads from given states of the body."""
        return self._sha256

    def read(self, advance: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Run the model as it now is; return 1 where the choice is right, 0 elsewhere.

        Parameters
        ----------
        advance
            Told the number of texts after each batch.

        Returns
        -------
        values
            Also 0 where the target is no candidate of the function's family. [functions, instances], or
            [1, instances] if all are of one family.
        """
        logits = self._logits(advance)
        prompt = np.empty(int(self._prompts.text.max()) + 1, dtype=np.int64)
        prompt[self._prompts.text] = np.arange(len(self._prompts.text))
        values = {}
        for family, words in self._families.items():
            is_right = words == self._right[:, None]  # [prompts, candidates]
            others = np.where(is_right, -np.inf, logits[:, words]).max(1)
            own = np.where(is_right, logits[:, words], -np.inf).max(1)
            values[family] = (own > others)[prompt[self.text]].astype(np.float32)
        if len(values) == 1:
            return np.stack(list(values.values()))
        return np.stack([values[family] for family, _ in self.functions])

    def _logits(self, advance: Callable[[int], None] | None) -> NDArray[np.float32]:
        """Return the logit of each word's first token. [prompts, words]."""
        prompts, tokens = self._prompts, self._subject.read.tokens
        device = next(self.model.parameters()).device
        found = []
        first = 0
        with torch.inference_mode():
            for batch in self._subject.batches(self._subject.read):
                inputs, _ = collate(self._loaded, tokens, prompts.targets, batch)
                some = slice(first, first + len(batch.texts))
                first = some.stop
                rows = torch.arange(len(batch.texts), device=device)
                positions, words = (
                    torch.from_numpy(each[some]).to(device) for each in (prompts.position, prompts.token_id)
                )
                logits = predict(self.model, inputs, rows, positions, _gather(words))
                found.append(logits.cpu().numpy())
                if advance is not None:
                    advance(len(batch.texts))
        return np.concatenate(found)

    def _check_first_tokens(self, words: Sequence[str]) -> None:
        for family, members in self._families.items():
            token_id = self._prompts.token_id[:, members]
            order = np.argsort(token_id, axis=1, kind="stable")
            ordered = np.take_along_axis(token_id, order, 1)
            same = np.argwhere(ordered[:, 1:] == ordered[:, :-1])
            if len(same):
                prompt, column = same[0].tolist()
                one, other = (words[members[order[prompt, each]]] for each in (column, column + 1))
                token = self._subject.model.tokenizer.convert_ids_to_tokens(int(ordered[prompt, column]))
                raise AnalysisError(
                    f"candidates {one!r} and {other!r} of family {family} begin with the same token, {token!r}, so "
                    f"{self._subject.model.name} cannot choose between them"
                )

    def _digest(self) -> str:
        tokens, prompts = self._subject.read.tokens, self._prompts
        targets = "" if prompts.targets is None else prompts.targets.sha256()
        return arrays_sha256(
            np.frombuffer(f"{head_sha256(self.model)} {tokens.sha256()} {targets}".encode(), np.uint8),
            np.frombuffer("\n".join(self._families).encode(), np.uint8),
            *(*self._families.values(), self._right, self.strata, prompts.position, prompts.token_id),
        )


def _gather(words: torch.Tensor) -> Callable[[slice, torch.Tensor], torch.Tensor]:
    return lambda places, logits: logits.gather(1, words[places].to(logits.device))


def _targets(subject: Subject) -> list[str]:
    """Return the target of each text of the corpus."""
    targets = [(target or "").strip() for target in subject.corpus.targets()]
    absent = targets.count("")
    if absent:
        raise AnalysisError(
            f"readout choice needs a label word as the target of every text; {absent:,} of {len(targets):,} texts of "
            f"corpus {subject.corpus.name} have none"
        )
    return targets


def _candidates(subject: Subject, targets: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return the candidates of each family that is read, sorted."""
    every = subject.corpus.instances()
    labels = subject.corpus.label_index(every.instance_id, every.text)
    entry_text = every.text[np.repeat(np.arange(labels.n_instances), np.diff(labels.indptr))]
    entry_family = np.array([family for family, _ in labels.functions])[labels.function]
    candidates = {}
    for family in sorted({family for family, _ in subject.functions}):
        words = sorted({targets[text] for text in np.unique(entry_text[entry_family == family]).tolist()})
        if not 1 < len(words) <= MOST_CANDIDATES:
            count = f"{len(words):,} distinct targets" if len(words) > 1 else f"one target, {words[0]!r},"
            raise AnalysisError(
                f"family {family} of corpus {subject.corpus.name} has {count} to choose from; a choice is between 2 to "
                f"{MOST_CANDIDATES} label words"
            )
        candidates[family] = words
    return candidates


def _check_words(subject: Subject, words: Sequence[str]) -> None:
    encoded = encode(subject.model.tokenizer, words, with_special_tokens=False)
    for word, encoding in zip(words, encoded, strict=True):
        if not encoding.ids:
            raise AnalysisError(f"target {word!r} of corpus {subject.corpus.name} has no token to choose")


def _check_predicted(head: PreTrainedModel, token_id: NDArray[np.int64], words: Sequence[str]) -> None:
    output = head.get_output_embeddings()  # type: ignore[no-untyped-call]
    n_tokens = None if output is None else len(output.weight)
    for word, most in zip(words, token_id.max(axis=0).tolist(), strict=True):
        if n_tokens is not None and most >= n_tokens:
            raise AnalysisError(
                f"target {word!r} begins with token {most:,} of the tokenizer; {type(head).__name__} predicts "
                f"{n_tokens:,} tokens alone"
            )


def _contents(subject: Subject) -> list[str]:
    """Return the texts that are read, in the order they are run."""
    order = subject.read.tokens.order.tolist()
    wanted = set(order)
    content = {index: text for index, text in enumerate(subject.corpus.texts()) if index in wanted}
    return [content[index] for index in order]


def _token_ids(subject: Subject, texts: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in encode(subject.model.tokenizer, texts)]


def _after_texts(subject: Subject, words: Sequence[str]) -> _Prompts:
    """Find each word's first token, and the place before it: the end of what text and text with word share."""
    tokens, contents = subject.read.tokens, _contents(subject)
    prompts = _token_ids(subject, contents)
    n_cut = sum(
        len(ids) > length
        for ids, length in zip(prompts, np.diff(tokens.token_start)[tokens.order].tolist(), strict=True)
    )
    if n_cut:
        raise AnalysisError(
            f"readout choice reads what comes after a text, but {n_cut:,} of {tokens.n_texts:,} texts of corpus "
            f"{subject.corpus.name} are cut; more tokens a text are needed"
        )
    positions, token_id = [], []
    for word in words:
        joined = _token_ids(subject, [f"{text}{'' if text[-1:].isspace() else ' '}{word}" for text in contents])
        begin = [_n_shared(prompt, ids) for prompt, ids in zip(prompts, joined, strict=True)]
        positions.append(begin)
        token_id.append([ids[place] for ids, place in zip(joined, begin, strict=True)])
    position = np.array(positions)  # [words, prompts]
    apart = np.argwhere(position != position[:1])
    if len(apart) or not position.all():
        prompt = int(apart[0, 1]) if len(apart) else int(np.argmin(position[0]))
        raise AnalysisError(
            f"text {tokens.order[prompt]} of corpus {subject.corpus.name} ends where no word can begin: "
            f"{contents[prompt][-40:]!r}"
        )
    return _Prompts(tokens.order, position[0] - 1, np.array(token_id).T.copy(), None)


def _n_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two texts begin with alike."""
    if list(other[: len(one)]) == list(one):
        return len(one)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _at_masks(subject: Subject, words: Sequence[str]) -> _Prompts:
    """Find each text's mask, and the first token that each word would have in its place."""
    tokens, tokenizer = subject.read.tokens, subject.model.tokenizer
    if tokenizer.mask_token_id is None:
        raise AnalysisError(f"readout choice needs a mask, which the tokenizer of model {subject.model.name} has not")
    contents = _contents(subject)
    position = []
    for text in tokens.order.tolist():
        read = tokens.token_ids[tokens.token_start[text] : tokens.token_start[text + 1]]
        masks = np.flatnonzero(read == tokenizer.mask_token_id)
        if len(masks) != 1:
            raise AnalysisError(
                f"readout choice needs one mask {tokenizer.mask_token} in each text; text {text} of corpus "
                f"{subject.corpus.name} has {len(masks)} within {len(read)} tokens"
            )
        position.append(int(masks[0]))
    masked, token_id = _token_ids(subject, contents), []
    for word in words:
        filled = _token_ids(subject, [text.replace(str(tokenizer.mask_token), word) for text in contents])
        for text, before, ids, place in zip(tokens.order.tolist(), masked, filled, position, strict=True):
            if ids[:place] != before[:place]:
                raise AnalysisError(
                    f"the mask of text {text} of corpus {subject.corpus.name} stands where no word can begin"
                )
        token_id.append([ids[place] for ids, place in zip(filled, position, strict=True)])
    return _Prompts(tokens.order, np.array(position), np.array(token_id).T.copy(), None)


def _of_decoder(subject: Subject, words: Sequence[str]) -> _Prompts:
    """Find each word's first token as a target, and give the decoder what stands before it."""
    tokens = subject.read.tokens
    encoded = encode(subject.model.tokenizer, words, are_targets=True)
    begin = [encoding.special_tokens_mask.index(0) for encoding in encoded]
    token_id = [encoding.ids[place] for encoding, place in zip(encoded, begin, strict=True)]
    before = [start_token(subject.model), *encoded[0].ids[: begin[0]]]
    n_texts = len(tokens.token_start) - 1
    ends = np.full(n_texts, len(before))
    targets = TokenizedTargets(
        token_ids=np.tile(np.array(before, dtype=np.int32), n_texts),
        token_start=np.arange(n_texts + 1) * len(before),
        start=np.zeros(n_texts, dtype=np.int64),
        stop=ends,
        n_truncated=0,
    )
    return _Prompts(tokens.order, ends[tokens.order] - 1, np.tile(np.array(token_id), (tokens.n_texts, 1)), targets)
