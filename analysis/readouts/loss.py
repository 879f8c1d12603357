"""The loss: how well a language model predicts the tokens of each instance."""

import functools
import sys
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from ...errors import AnalysisError
from ...ingest.activations.tokens import TokenizedCorpus, TokenizedTargets, check_embedded, tokenize_targets
from ...ingest.models.model import decoder_of, start_token
from ...ingest.models.tokenizers import n_embedded
from .predictions import objective, positives, predict, predictions_sha256, with_head
from .readout import LEAST_INSTANCES, Advance, Readout, Texts

# Share of tokens that are masked where an instance is a whole text, as in BERT's training, and the seed of their draw.
_MASKED_SHARE = 0.15
_MASK_SEED = 0


@dataclass(frozen=True, slots=True)
class _Predicted:
    """Tokens to predict, instance by instance in the order in which they are run."""

    tokens: TokenizedCorpus  # the texts that are run
    targets: TokenizedTargets | None  # what a decoder reads beside them
    count: NDArray[np.int64]  # tokens to predict of each instance [instances]
    position: NDArray[np.int64]  # of each token's logits, within the text, or the target if there is one [predicted]
    token_id: NDArray[np.int64]  # [predicted]


class LossReadout(Readout):
    """Mean loss of the language model on an instance's tokens, in nats a token; of a function, on its positives.

    A causal model predicts each token from all before it, save the first of a text; a masked model all tokens of an
    instance at once behind masks; an encoder-decoder the tokens of the text's target. Functions with fewer than
    `LEAST_INSTANCES` positives that have a loss are not read; one must remain. The model must be loaded with its head.
    Half a of the texts is not used.
    """

    kind = "loss"
    metric = "nats a token"
    is_loss = True

    def __init__(self, texts: Texts) -> None:
        self._texts, self.model = with_head(texts, self.kind)
        predicted = {"causal": _next_tokens, "masked": _masked_tokens, "seq2seq": _target_tokens}
        self._predicted = predicted[objective(texts.model)](texts)
        self._kept = self._predicted.count > 0
        strata = positives(texts.read)[:, self._kept]
        enough = (strata == 1).sum(1) >= LEAST_INSTANCES
        if not enough.any():
            problem = f"no function of corpus {texts.corpus.name} has {LEAST_INSTANCES} positives with a loss"
            raise AnalysisError(f"{problem}; the first token of a text has none")
        self.functions = tuple(compress(texts.functions, enough))
        self.strata = strata[enough]
        self.instance_id = texts.read.tokens.instance_id[self._kept]
        self.text = texts.read.tokens.text[self._kept]
        read = self._predicted
        decisive = (self.strata, self.instance_id, read.count, read.position, read.token_id)
        self.sha256 = predictions_sha256(self.model, read.tokens, read.targets, *decisive)

    @torch.inference_mode()
    def read(self, advance: Advance = None) -> NDArray[np.float32]:
        """Return the mean loss of each instance's tokens, [1, instances] (see `Readout.read`)."""
        predicted = self._predicted
        n_instances = len(predicted.count)
        first = np.concatenate([[0], np.cumsum(predicted.count)])
        instance = np.repeat(np.arange(n_instances), predicted.count)
        row = np.empty(len(predicted.tokens.token_start), dtype=np.int64)
        # An original text is done with its last instance; masked texts are run once for each instance.
        text = self._texts.read.tokens.text
        is_last = np.append(text[1:] != text[:-1], True)
        losses = np.zeros(len(instance), dtype=np.float64)
        for batch, inputs, _ in self._texts.batches(predicted.tokens, predicted.targets):
            row[batch.texts] = np.arange(len(batch.texts))
            wanted = slice(first[batch.first], first[batch.last])
            if wanted.stop > wanted.start:
                rows, positions = row[predicted.tokens.text[instance[wanted]]], predicted.position[wanted]
                # A token of several instances is predicted once.
                place = rows * (positions.max() + 1) + positions
                _, once, back = np.unique(place, return_index=True, return_inverse=True)
                token_id = predicted.token_id[wanted][once]
                loss = functools.partial(cross_entropy, reduction="none")
                losses[wanted] = predict(self.model, inputs, rows[once], positions[once], token_id, loss)[back]
            if advance is not None:
                advance(int(is_last[batch.first : batch.last].sum()))
        sums = np.bincount(instance, losses, minlength=n_instances)
        return (sums[self._kept] / predicted.count[self._kept]).astype(np.float32)[None]


def _ranges(start: NDArray[np.integer], stop: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the size of each range, and the numbers of all ranges end to end."""
    count = (stop - start).astype(np.int64)
    return count, np.arange(count.sum()) + np.repeat(start - (np.cumsum(count) - count), count)


def _next_tokens(texts: Texts, targets: TokenizedTargets | None = None) -> _Predicted:
    """Predict the tokens of each instance, or of its target, from the place before them."""
    tokens = texts.read.tokens
    if targets is None:
        start = np.maximum(tokens.start, 1)
        count, place = _ranges(start, np.maximum(tokens.stop, start))
    else:
        count, place = _ranges(targets.start[tokens.text], targets.stop[tokens.text])
    read = targets or tokens
    token_id = read.token_ids[np.repeat(read.token_start[tokens.text], count) + place].astype(np.int64)
    return _Predicted(tokens, targets, count, place - 1, token_id)


def _masked_tokens(texts: Texts) -> _Predicted:
    """Predict the tokens of each instance behind masks, in a copy of its text."""
    tokens, mask = texts.read.tokens, texts.model.tokenizer.mask_token_id
    if mask is None or mask >= n_embedded(texts.model.module):
        problem = f"readout loss needs a mask, which the tokenizer of model {texts.model.name} has not"
        raise AnalysisError(f"{problem}, or the model no embedding for")
    stored = texts.corpus.instances()
    is_whole = np.isin(tokens.instance_id, stored.instance_id[np.isnan(stored.start_char)])
    spans = (column.tolist() for column in (tokens.start, tokens.stop, tokens.instance_id, is_whole))
    chosen = [
        _draw(start, stop, instance_id) if whole else np.arange(start, stop)
        for start, stop, instance_id, whole in zip(*spans, strict=True)
    ]
    count = np.array([len(places) for places in chosen])
    position = np.concatenate(chosen)
    length, place = _ranges(tokens.token_start[tokens.text], tokens.token_start[tokens.text + 1])
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
    """Draw the tokens of a whole text that are masked, the same each time; at least one."""
    size = max(1, round(_MASKED_SHARE * (stop - start)))
    drawn = np.random.default_rng((_MASK_SEED, instance_id)).choice(stop - start, size, replace=False)
    return np.sort(drawn) + start


def _target_tokens(texts: Texts) -> _Predicted:
    """Predict the tokens of each text's target."""
    model, corpus = texts.model, texts.corpus
    if corpus.n_without_target:
        problem = f"readout loss of {model.name}, an encoder-decoder, needs targets"
        raise AnalysisError(f"{problem}; {corpus.n_without_target:,} texts of corpus {corpus.name} have none")
    longest = int(getattr(model.config, "max_position_embeddings", None) or sys.maxsize)
    targets = tokenize_targets(corpus, model.tokenizer, start_token=start_token(model), max_tokens=longest)
    check_embedded(targets, model.tokenizer, decoder_of(model), f"targets of corpus {corpus.name}")
    return _next_tokens(texts, targets)
