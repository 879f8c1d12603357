"""From Penn-Treebank-like tokens back to readable text."""

from collections.abc import Sequence

__all__ = ["join"]

_NO_SPACE_BEFORE = frozenset([",", ".", ";", ":", "?", "!", ")", "]", "%", "''", "'", "/"])
_NO_SPACE_AFTER = frozenset(["(", "[", "``", "`", "$", "/"])
_CLITICS = frozenset(["n't", "'s", "'d", "'m", "'ll", "'re", "'ve"])
_WRITTEN = {"``": '"', "''": '"', "`": "'"}


def join(tokens: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    r"""Return tokens as readable text, and the character span of each.

    Underscores within a token stand for spaces; no space stands before ``,.;:?!)]%`` and clitics, or after
    ``([$``; opening and closing quotes become ``"`` and ``'``.

    Examples
    --------
    >>> join(["``", "Mr._Day", "did", "n't", "."])
    ('"Mr. Day didn\'t.', [(0, 1), (1, 8), (9, 12), (12, 15), (15, 16)])
    """
    written: list[str] = []
    spans = []
    length = 0
    previous = ""
    for token in tokens:
        start = -1
        for piece in [each for each in token.split("_") if each] or [token]:
            is_attached = piece in _NO_SPACE_BEFORE or piece.lower() in _CLITICS or previous in _NO_SPACE_AFTER
            if written and not is_attached:
                written.append(" ")
                length += 1
            start = length if start < 0 else start
            written.append(_WRITTEN.get(piece, piece))
            length += len(written[-1])
            previous = piece
        spans.append((start, length))
    return "".join(written), spans
