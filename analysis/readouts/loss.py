"""The loss: how well a language model predicts the tokens of each instance."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from ...errors import AnalysisError
from ...ingest.activations.batches import collate
from ...ingest.activations.targets import TokenizedTargets, tokenize_targets
from ...ingest.activations.tokens import TokenizedCorpus, arrays_sha256
from ...ingest.models.model import Model, decoder_of, start_token
from ...ingest.models.tokenizers import check_embedded, n_embedded
from ...schema.vocabulary import ReadoutKind
from .predictions import head_of, head_sha256, objective, predict
from .texts import LEAST_INSTANCES, Subject, Texts

__all__ = ["LossReadout"]

# Of an instance that is a whole text, the share of its tokens behind masks, as in BERT's training, and the seed of
# which.
_MASKED_SHARE = 0.15
_MASK_SEED = 0


@dataclass(frozen=True, slots=True)
class _Predicted:
    """Tokens to predict, instance by instance in the order they are run.

    Parameters
    ----------
    tokens
        Texts as they are run, with the instances of each.
    targets
        What a decoder reads beside them.
    count
        Tokens to predict of each instance. [instances]
    position
        Where each token's logits are, within the text, or the target if there are any. [predicted]
    token_id
        The token. [predicted]
    """

    tokens: TokenizedCorpus
    targets: TokenizedTargets | None
    count: NDArray[np.int64]
    position: NDArray[np.int64]
    token_id: NDArray[np.int64]


class LossReadout:
    """Mean loss of the language model on an instance's tokens, in nats a token.

    - A causal model predicts each token from all before it; instances that are the first token of a text, which is
      predicted from nothing, are left out.
    - A masked model predicts all of an instance's tokens behind masks at once; of an instance that is a whole text,
      15% of its tokens, at least one, drawn once for all.
    - An encoder-decoder predicts the target's own tokens, each from the text and the tokens before it.

    A function's readout is the mean over its positives, each instance counting the same. Functions that keep too few
    are left out.

    Parameters
    ----------
    subject
        The model, loaded with its head, and the texts. Half a is not needed.

    Raises
    ------
    AnalysisError
        If the model has no head or, if masked, its tokenizer no mask; if a text has no target for an encoder-decoder;
        or if no function has enough instances left.
    IngestError
        If a target has no token.
    """

    kind: ReadoutKind = "loss"
    metric: str = "nats a token"
    is_loss: bool = True
    n_fitted_texts: int | None = None

    def __init__(self, subject: Subject) -> None:
        self.model = head_of(subject.model, self.kind)
        self._loaded = replace(subject.model, module=self.model)
        self._subject = subject
        match objective(subject.model):
            case "causal":
                self._predicted = _next_tokens(subject.read.tokens)
            case "masked":
                self._predicted = _masked_tokens(subject)
            case "seq2seq":
                self._predicted = _target_tokens(subject)
        self._kept = self._predicted.count > 0
        strata = np.where(subject.read.labels[:, self._kept] == 1, 1, -1).astype(np.int8)
        enough = (strata == 1).sum(1) >= LEAST_INSTANCES
        if not enough.any():
            raise AnalysisError(
                f"no function of corpus {subject.corpus.name} has {LEAST_INSTANCES} positives with a loss; the first "
                "token of a text has none"
            )
        self.functions: tuple[tuple[str, str], ...] = tuple(
            function for function, is_kept in zip(subject.functions, enough.tolist(), strict=True) if is_kept
        )
        self.strata: NDArray[np.int8] = strata[enough]
        self.instance_id: NDArray[np.int64] = subject.read.tokens.instance_id[self._kept]
        self.text: NDArray[np.int64] = subject.read.tokens.text[self._kept]
        self._sha256 = self._digest()

    def sha256(self) -> str:
        """Return the digest of all that decides what it reads from given states of the body."""
        return self._sha256

    def read(self, advance: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Run the model as it now is; return the mean loss of each instance's tokens.

        Parameters
        ----------
        advance
            Told the number of texts after each batch.

        Returns
        -------
        values
            [1, instances]
        """
        predicted = self._predicted
        n_instances = len(predicted.count)
        first = np.concatenate([[0], np.cumsum(predicted.count)])
        instance = np.repeat(np.arange(n_instances), predicted.count)
        row = np.empty(len(predicted.tokens.token_start), dtype=np.int64)
        # An original text is done with its last instance; a masked one is run instance by instance.
        text = self._subject.read.tokens.text
        is_last = np.append(text[1:] != text[:-1], True)
        losses = np.zeros(len(instance), dtype=np.float64)
        labels = self._subject.read.labels
        with torch.inference_mode():
            for batch in self._subject.batches(Texts(predicted.tokens, labels)):
                row[batch.texts] = np.arange(len(batch.texts))
                some = slice(first[batch.first], first[batch.last])
                if some.stop > some.start:
                    inputs, _ = collate(self._loaded, predicted.tokens, predicted.targets, batch)
                    rows = row[predicted.tokens.text[instance[some]]]
                    losses[some] = self._losses(inputs, rows, predicted.position[some], predicted.token_id[some])
                if advance is not None:
                    advance(int(is_last[batch.first : batch.last].sum()))
        sums = np.bincount(instance, losses, minlength=n_instances)
        return (sums[self._kept] / predicted.count[self._kept]).astype(np.float32)[None]

    def _losses(
        self,
        inputs: dict[str, object],
        row: NDArray[np.int64],
        position: NDArray[np.int64],
        token_id: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        # A token of several instances is predicted once.
        _, once, back = np.unique(row * (position.max() + 1) + position, return_index=True, return_inverse=True)
        device = next(self.model.parameters()).device
        rows, positions, right = (torch.from_numpy(each[once]).to(device) for each in (row, position, token_id))
        losses = predict(
            self.model,
            inputs,
            rows,
            positions,
            lambda places, logits: cross_entropy(logits, right[places].to(logits.device), reduction="none"),
        )
        found: NDArray[np.float32] = losses.cpu().numpy()
        return found[back]

    def _digest(self) -> str:
        predicted = self._predicted
        targets = "" if predicted.targets is None else predicted.targets.sha256()
        return arrays_sha256(
            np.frombuffer(f"{head_sha256(self.model)} {predicted.tokens.sha256()} {targets}".encode(), np.uint8),
            *(self.strata, self.instance_id, predicted.count, predicted.position, predicted.token_id),
        )


def _spread(start: NDArray[np.integer], stop: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each range's size, and the ranges' numbers end to end."""
    count = (stop - start).astype(np.int64)
    return count, np.arange(count.sum()) + np.repeat(start - (np.cumsum(count) - count), count)


def _next_tokens(tokens: TokenizedCorpus) -> _Predicted:
    start = np.maximum(tokens.start, 1)
    count, place = _spread(start, np.maximum(tokens.stop, start))
    token_id = tokens.token_ids[np.repeat(tokens.token_start[tokens.text], count) + place].astype(np.int64)
    return _Predicted(tokens, None, count, place - 1, token_id)


def _masked_tokens(subject: Subject) -> _Predicted:
    """Copy the text of each instance, with masks over its tokens."""
    tokens, mask = subject.read.tokens, subject.model.tokenizer.mask_token_id
    if mask is None or mask >= n_embedded(subject.model.module):
        raise AnalysisError(
            f"readout loss needs a mask, which the tokenizer of model {subject.model.name} has not, or the model no "
            "embedding for"
        )
    every = subject.corpus.instances()
    is_whole = np.isin(tokens.instance_id, every.instance_id[np.isnan(every.start_char)])
    chosen = [
        _draw(start, stop, instance_id) if whole else np.arange(start, stop)
        for start, stop, instance_id, whole in zip(
            *(each.tolist() for each in (tokens.start, tokens.stop, tokens.instance_id, is_whole)), strict=True
        )
    ]
    count = np.array([len(each) for each in chosen])
    position = np.concatenate(chosen)
    begin, end = tokens.token_start[tokens.text], tokens.token_start[tokens.text + 1]
    length, place = _spread(begin, end)
    token_ids = tokens.token_ids[place]
    token_start = np.concatenate([[0], np.cumsum(length)])
    masked = np.repeat(token_start[:-1], count) + position
    token_id = token_ids[masked].astype(np.int64)
    token_ids[masked] = mask
    # Instances are in the order of their texts, from the longest to the shortest, so their copies are too.
    rows = np.arange(len(count))
    copies = replace(tokens, token_ids=token_ids, token_start=token_start, order=rows, text=rows)
    return _Predicted(copies, None, count, position, token_id)


def _draw(start: int, stop: int, instance_id: int) -> NDArray[np.int64]:
    """Draw the tokens of a whole text that are masked."""
    size = max(1, round(_MASKED_SHARE * (stop - start)))
    drawn = np.random.default_rng((_MASK_SEED, instance_id)).choice(stop - start, size, replace=False)
    return np.sort(drawn) + start


def _target_tokens(subject: Subject) -> _Predicted:
    model, corpus, tokens = subject.model, subject.corpus, subject.read.tokens
    absent = sum(not (target and target.strip()) for target in corpus.targets())
    if absent:
        raise AnalysisError(
            f"readout loss of {model.name}, an encoder-decoder, needs targets; {absent:,} texts of corpus "
            f"{corpus.name} have none"
        )
    targets = tokenize_targets(
        corpus, model.tokenizer, start_token=start_token(model), max_tokens=_longest_target(model)
    )
    check_embedded(targets, model.tokenizer, decoder_of(model), f"targets of corpus {corpus.name}")
    count, place = _spread(targets.start[tokens.text], targets.stop[tokens.text])
    token_id = targets.token_ids[np.repeat(targets.token_start[tokens.text], count) + place].astype(np.int64)
    return _Predicted(tokens, targets, count, place - 1, token_id)


def _longest_target(model: Model) -> int:
    return int(getattr(model.config, "max_position_embeddings", None) or sys.maxsize)
