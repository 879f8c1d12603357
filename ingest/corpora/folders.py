"""Labelled folders of text files: ``FOLDER/<label>/*.txt``, or files without a suffix."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import IngestError
from .files import read_text, visible_files
from .instance import Instance, Position, Source
from .sampling import capped

__all__ = ["read_folders"]

BEYOND_CAP = "file beyond the cap of its label"
OTHER = "file of another kind than the texts"
CUT = "text cut to the longest length"


def read_folders(
    path: str | os.PathLike[str],
    *,
    family: str = "task",
    cap: int | None = None,
    seed: int = 0,
    max_chars: int | None = None,
    description: str | None = None,
    licence: str | None = None,
    encoding: str | None = None,
) -> Source:
    """Return a corpus of one text a file, labelled by folder, about to be read as a stream.

    Each label is a function of its own, as ``task/sport``, and the texts of all other labels are its negatives. Two
    labels in all are one function, the first in alphabetical order against the second, as ``task/ham-spam``.

    Texts are the files ``*.txt``; where there is none at all, the files without a suffix, as 20 Newsgroups has.
    Hidden files and all others are left out and counted.

    Parameters
    ----------
    path
        The folder of labelled folders.
    family
        Family of the functions.
    cap
        How many files of each label to read, chosen at random; None for all.
    seed
        Seed of the choice.
    max_chars
        Longest text, in characters; what is longer is cut at the last word that fits, and counted.
    description, licence
        What the corpus is, and its licence.
    encoding
        Encoding of the files; None to find out that of each (`read_text`; one of BBC News' 2,225 is not UTF-8).

    Raises
    ------
    IngestError
        Here, if there are not at least two labels; while reading, with the file, if one cannot be read.
    """
    path = Path(path)
    if max_chars is not None and max_chars < 1:
        raise IngestError(f"max_chars must be at least 1, not {max_chars}")
    dropped: Counter[str] = Counter()
    visible = visible_files(path, "*/*", dropped)
    suffix = ".txt" if any(file.suffix.lower() == ".txt" for file in visible) else ""
    files = [file for file in visible if file.suffix.lower() == suffix]
    if len(files) < len(visible):
        dropped[OTHER] += len(visible) - len(files)
    labels = sorted({file.parent.name for file in files})
    if len(labels) < 2:
        found = f"found {labels[0]!r} only" if labels else "found none"
        raise IngestError(
            f"{path}: at least two folders with *.txt files are needed, or files without a suffix, one folder a "
            f"label; {found}"
        )
    chosen = capped(files, cap, by=lambda file: file.parent.name, seed=seed)
    if len(chosen) < len(files):
        dropped[BEYOND_CAP] += len(files) - len(chosen)
    position = Position(str(path))
    return Source(
        instances=_instances(
            chosen, position, dropped, labels=labels, family=family, max_chars=max_chars, encoding=encoding
        ),
        description=description or f"texts labelled {', '.join(labels[:6])}{', …' if len(labels) > 6 else ''}",
        licence=licence,
        origin=f"folders: {path.name}",
        negatives="explicit" if len(labels) == 2 else "rest",
        dropped=dropped,
        position=position,
    )


def _instances(
    files: Sequence[Path],
    position: Position,
    dropped: Counter[str],
    *,
    labels: Sequence[str],
    family: str,
    max_chars: int | None,
    encoding: str | None,
) -> Iterator[Instance]:
    for file in files:
        position.file = str(file)
        text = read_text(file, dropped, encoding=encoding).strip()
        if max_chars is not None and len(text) > max_chars:
            text = _cut(text, max_chars)
            dropped[CUT] += 1
        label = file.parent.name
        if len(labels) == 2:
            # One is the other's complement: one function, not two that say the same.
            functions = {f"{family}/{'-'.join(labels)}": label == labels[0]}
        else:
            functions = {f"{family}/{label}": True}
        yield Instance(text, functions, source_id=f"{label}/{file.name}")


def _cut(text: str, max_chars: int) -> str:
    """Return the words of `text` that fit; a first word that does not fit is cut itself."""
    if text[max_chars].isspace():
        return text[:max_chars].rstrip()
    kept = text[:max_chars]
    words = kept.rsplit(None, 1)
    return words[0] if len(words) == 2 and not kept[-1].isspace() else kept.rstrip()
