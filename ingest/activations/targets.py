"""The target texts of a corpus, as the decoder of an encoder-decoder reads them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ...errors import IngestError
from ..corpora.stored import StoredCorpus
from .tokens import arrays_sha256, content_tokens, encodings


@dataclass(frozen=True, slots=True)
class TokenizedTargets:
    """What the decoder reads for each text of a corpus, in stored order: the start token, then the target."""

    token_ids: NDArray[np.int32]  # all texts' decoder inputs, end to end
    token_start: NDArray[np.int64]  # text t's are ``token_ids[token_start[t]:token_start[t + 1]]`` [texts + 1]
    # First token of the target itself within its text's, and one past its last [texts]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    n_truncated: int  # targets that were cut

    def sha256(self) -> str:
        """Return the digest of these tokens and spans."""
        return arrays_sha256(self.token_ids, self.token_start, self.start, self.stop)


def tokenize_targets(
    corpus: StoredCorpus, tokenizer: PreTrainedTokenizerBase, *, start_token: int, max_tokens: int
) -> TokenizedTargets:
    """Tokenize the targets of a corpus in which every text has one; what the decoder starts with is `start_token`.

    The tokenizer must be a fast one. Decoder inputs are cut at `max_tokens`. Raises IngestError if a target has no
    token, or cannot be tokenized.
    """
    token_ids: list[NDArray[np.int32]] = []
    start: list[int] = []
    stop: list[int] = []
    n_truncated = 0
    texts = (target or "" for target in corpus.targets())
    for encoding in encodings(tokenizer, texts, are_targets=True):
        content = content_tokens(encoding)
        if not len(content) or content[0] + 1 >= max_tokens:
            raise IngestError(f"corpus {corpus.name}: the target of text {len(start)} has no token to measure")
        # What stands after the last of the target is only ever predicted, never read.
        stop.append(min(int(content[-1]) + 2, max_tokens))
        n_truncated += content[-1] + 2 > max_tokens
        start.append(int(content[0]) + 1)
        token_ids.append(np.array([start_token, *encoding.ids], dtype=np.int32)[: stop[-1]])
    return TokenizedTargets(
        token_ids=np.concatenate(token_ids),
        token_start=np.concatenate([[0], np.cumsum([len(ids) for ids in token_ids])]),
        start=np.array(start, dtype=np.int64),
        stop=np.array(stop, dtype=np.int64),
        n_truncated=n_truncated,
    )
