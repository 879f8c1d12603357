"""Labelled folders of text files: ``FOLDER/<label>/*.txt``, or files without a suffix."""

import os
import re
from pathlib import Path

from ....errors import IngestError
from ..files import read_text, visible_files
from ..instance import Instance, Reading, Source, capped
from ..labels import class_labels


def read_folders(
    path: str | os.PathLike[str],
    *,
    family: str = "task",
    cap: int | None = None,
    seed: int = 0,
    max_chars: int | None = None,
    encoding: str | None = None,
) -> Source:
    """Return a source with one instance for each text file in a folder of labelled folders.

    The label ``sport`` becomes the function ``task/sport``; texts with another label are its negatives. If there are
    only two labels, they are one function, such as ``task/ham-spam``, of which the alphabetically first is positive.

    Texts are the files ``*.txt``; if there are none at all, the files without a suffix, as in 20 Newsgroups.
    Hidden files and all others are excluded and counted.

    Parameters
    ----------
    path
        The folder of labelled folders.
    family
        Family of the functions.
    cap, seed
        Most files of each label, drawn at random with this seed; None for all.
    max_chars
        Longest text, in characters; a longer one is cut after the last word that fits, and counted.
    encoding
        Encoding of the files; None to detect that of each (`read_text`; one of BBC News' 2,225 is not UTF-8).

    Raises
    ------
    IngestError
        Here, if there are fewer than two labels; while reading, with the file, if one cannot be read.

    Examples
    --------
    >>> [instance.labels for instance in neuronlake.read_folders("news").instances]
    [{'task/sport-tech': True}, {'task/sport-tech': False}]
    """
    path = Path(path)
    if max_chars is not None and max_chars < 1:
        raise IngestError(f"max_chars must be at least 1, not {max_chars}")
    reading = Reading(encoding=encoding)
    visible = visible_files(path, "*/*", reading)
    suffix = ".txt" if any(file.suffix.lower() == ".txt" for file in visible) else ""
    files = [file for file in visible if file.suffix.lower() == suffix]
    if len(files) < len(visible):
        reading.dropped["file of another kind than the texts"] += len(visible) - len(files)
    labels = sorted({file.parent.name for file in files})
    if len(labels) < 2:
        raise IngestError(
            f"{path}: at least two folders with *.txt files are needed, or files without a suffix, one folder a "
            f"label; found {f'{labels[0]!r} only' if labels else 'none'}"
        )
    reason = "file beyond the cap of its label"
    drawn = list(capped(files, cap, by=lambda file: file.parent.name, seed=seed, reading=reading, reason=reason))
    pairs = [(labels[0], labels[1])] if len(labels) == 2 else []
    return Source(
        instances=(
            Instance(
                _text(file, reading, max_chars),
                class_labels(file.parent.name, pairs, prefix=f"{family}/"),
                source_id=f"{file.parent.name}/{file.name}",
            )
            for file in drawn
        ),
        description=f"texts labelled {', '.join(labels[:6])}{', …' if len(labels) > 6 else ''}",
        licence=None,
        origin=f"folders: {path.name}",
        negatives="explicit" if pairs else "rest",
        reading=reading,
    )


def _text(file: Path, reading: Reading, max_chars: int | None) -> str:
    """Return the words of a file that fit; a first word that does not fit is cut itself."""
    text = read_text(file, reading).strip()
    if max_chars is None or len(text) <= max_chars:
        return text
    reading.dropped["text cut to the longest length"] += 1
    words = re.match(rf"(?s:.{{1,{max_chars}}})(?!\S)", text)
    return (words[0] if words else text[:max_chars]).rstrip()
