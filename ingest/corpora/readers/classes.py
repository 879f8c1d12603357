"""Texts of one class each, from labelled folders of files, or from a Hugging Face dataset (extra ``hub``)."""

import os
import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....errors import IngestError, UnknownNameError, check_known, one_line
from ..files import read_text, visible_files, without_gap
from ..instance import Instance, Reading, Source, capped

if TYPE_CHECKING:
    from datasets import Dataset


def class_labels(name: str, pairs: Sequence[tuple[str, str]], *, prefix: str) -> dict[str, bool]:
    """Return the labels of a text of class `name`: one for the class, or one for every pair that holds it.

    With the pairs art-sport and sport-tech, ``sport`` gives ``{"task/art-sport": False, "task/sport-tech": True}``.
    """
    if prefix.count("/") > 1:
        raise IngestError(f"family {prefix.rpartition('/')[0]!r} holds a /, at which the name of its functions begins")
    if not pairs:
        return {f"{prefix}{name}": True}
    return {f"{prefix}{first}-{second}": name == first for first, second in pairs if name in (first, second)}


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
    path, family
        The folder of labelled folders, and the family of the functions.
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
        needed = "at least two folders with *.txt files are needed, or files without a suffix, one folder a label"
        raise IngestError(f"{path}: {needed}; found {f'{labels[0]!r} only' if labels else 'none'}")
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


_FILE_FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}


def read_huggingface(
    path: str | os.PathLike[str],
    *,
    label_column: str = "label",
    template: str = "{text}",
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    pairs: Sequence[str] = (),
    cap: int | None = None,
    seed: int = 0,
    family: str = "task",
    task: str | None = None,
) -> Source:
    """Return a source with one instance for each row of a dataset.

    Each class is a function, such as ``task/agnews.sports``; rows of all other classes are its negatives. With `pairs`,
    each pair of classes is a function, such as ``task/mnli.entailment-contradiction``: the first class is positive, the
    second negative, and rows of other classes are excluded. Two classes alone are one such pair, in alphabetical order.

    Parameters
    ----------
    path
        Folder, file (JSON, JSONL, CSV, Parquet, Arrow) or hub id.
    label_column
        The column of classes: class labels with names, strings, integers or booleans.
    template
        The text of a row: columns in braces, as ``"sst2 sentence: {sentence}"``.
    split, config, revision
        What to load, as in ``datasets.load_dataset``.
    pairs
        Pairs of classes, as ``"entailment-contradiction"``.
    cap, seed
        Most rows of each class, drawn at random with this seed; None for all.
    family, task
        Family of the functions, and what their names begin with, followed by a dot; None for nothing.

    Raises
    ------
    IngestError, UnknownNameError
        If the package ``datasets`` is missing, the dataset cannot be loaded, the template is malformed, or the
        column does not hold classes; if a column or a class does not exist.

    Examples
    --------
    >>> [instance.labels for instance in neuronlake.read_huggingface("reviews.jsonl").instances]
    [{'task/bad-good': False}, {'task/bad-good': True}]
    """
    pieces = _pieces(template)
    dataset = _load(path, split=split, config=config, revision=revision)
    shown = Path(path).name if Path(path).exists() else str(path)
    title = f"{shown}{f', {config}' if config else ''}, {split}"
    columns = list(dict.fromkeys(column for _, column in pieces if column is not None))
    check_known("column", (label_column, *columns), dataset.column_names, where=title)
    classes = _classes(dataset, label_column, title)
    names = sorted({name for name in classes if name is not None})
    chosen_pairs = [_pair(pair, names, title) for pair in pairs]
    if len(names) == 2 and not pairs:
        # One class is the other's complement: one function, not two that say the same.
        chosen_pairs = [(names[0], names[1])]
    reading = Reading(title, unit="row")
    labelled = [(index, name) for index, name in enumerate(classes) if name is not None]
    in_pairs = {name for pair in chosen_pairs for name in pair} or set(names)
    wanted = [row for row in labelled if row[1] in in_pairs]
    reading.dropped["row without a class"] += len(classes) - len(labelled)
    reading.dropped["row of a class in no chosen pair"] += len(labelled) - len(wanted)
    reason = "row beyond the cap of its class"
    rows = list(capped(wanted, cap, by=lambda row: row[1], seed=seed, reading=reading, reason=reason))
    prefix = f"{family}/{f'{task}.' if task else ''}"

    def instances() -> Iterator[Instance]:
        chosen = dataset.select_columns(columns).select([index for index, _ in rows])
        for (index, name), row in zip(rows, chosen, strict=True):
            reading.index = index + 1
            if None in row.values():
                reading.dropped["row with NULL in a column of the template"] += 1
                continue
            text = "".join(before if column is None else f"{before}{row[column]}" for before, column in pieces)
            yield Instance(text, class_labels(name, chosen_pairs, prefix=prefix), source_id=str(index))

    return Source(
        instances=instances(),
        description=f"{title}: {template}",
        licence=dataset.info.license or None,
        origin=f"huggingface: {title}",
        negatives="explicit" if chosen_pairs else "rest",
        reading=reading,
    )


def _load(name: str | os.PathLike[str], *, split: str, config: str | None, revision: str | None) -> "Dataset":
    try:
        import datasets
    except ImportError as error:
        missing = "Hugging Face datasets are read by the package 'datasets', which is not installed"
        raise IngestError(f"{missing}: pip install 'neuronlake[hub]'") from error
    path = Path(name)
    is_file = path.is_file()
    if is_file and path.suffix not in _FILE_FORMATS:
        raise IngestError(f"{path}: the suffix tells the format: {', '.join(_FILE_FORMATS)}")
    were_disabled, verbosity = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what it logs as an error, it raises as well
    try:
        if is_file:
            return datasets.load_dataset(_FILE_FORMATS[path.suffix], data_files=str(path), split=split)
        return datasets.load_dataset(str(name), name=config, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        is_wrapper = isinstance(error, datasets.exceptions.DatasetGenerationError)
        cause = error.__cause__ if is_wrapper and error.__cause__ else error
        raise IngestError(f"cannot load {name}: {one_line(cause)}") from error
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not were_disabled:
            datasets.enable_progress_bars()


def _pieces(template: str) -> list[tuple[str, str | None]]:
    """Return a template as pieces of text, each with the column whose value follows it."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise IngestError(f"template {template!r}: {one_line(error)}") from error
    if not any(column for _, column, _, _ in parsed):
        raise IngestError(f"template {template!r} names no column in braces, such as '{{text}}'")
    if any(column == "" or form or conversion for _, column, form, conversion in parsed):
        raise IngestError(f"template {template!r}: braces hold the name of a column and nothing else")
    return [(text, column) for text, column, _, _ in parsed]


def _classes(dataset: "Dataset", column: str, title: str) -> list[str | None]:
    """Return the class of every row, None where there is none."""
    values: list[Any] = [without_gap(value) for value in dataset[column]]
    for value in values:
        if value is not None and not isinstance(value, str | int):
            kind = type(value).__name__
            raise IngestError(f"column {column!r} in {title} holds {kind} values, not classes: {value!r}")
    names = getattr(dataset.features[column], "names", None)
    if names is None:
        return [None if value is None else str(value) for value in values]
    # Hidden labels of test sets are -1 in a column of named classes.
    return [None if value is None or value < 0 else names[value] for value in values]


def _pair(pair: str, classes: Sequence[str], title: str) -> tuple[str, str]:
    """Return the two classes of ``"first-second"``; a class may have a hyphen in its name."""
    parts = pair.split("-")
    splits = [("-".join(parts[:place]), "-".join(parts[place:])) for place in range(1, len(parts))]
    known = [(first, second) for first, second in splits if first in classes and second in classes]
    if len(known) == 1 and known[0][0] != known[0][1]:
        return known[0]
    if splits and not known:
        unknown = next((name for name in splits[0] if name not in classes), pair)
        raise UnknownNameError("class", unknown, classes, where=f"{title}, for the pair {pair!r}")
    raise IngestError(f"{pair!r} is not a pair of classes, as first-second; classes: {', '.join(classes)}")
