"""Control tasks of a corpus: its labels permuted, while what shares a text, a group or a word keeps them together.

A neuron that detects such a function detects texts or words, not the function: what a study finds of the real labels
and not of these is about the function (Hewitt and Liang 2019, "Designing and Interpreting Probes with Control Tasks").
Activations and their correlations are those of the same texts; only which instance has which label is chance.

The labels of every instance are given away once, so that all counts stay. Units (texts, groups, words) of like size
make a class: in descending order of size, at least ten, and so many that none holds more than half of the class. Its
units stand in random order, and labels move on by as many instances as the largest of them has. So a unit among others
of its size gives all it has to one of them; where sizes differ, to two or three; and one that is far more frequent than
all others (*be*) gives to many, and takes from them.
"""

import hashlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...errors import IngestError, check_known
from ...schema.store import Store
from ...schema.vocabulary import ControlTask, ShuffleUnit
from .instance import Instance, Reading, Source
from .labels import LabelIndex
from .stored import StoredCorpus

_Value = TypeVar("_Value", bound=np.generic)
_FEWEST_UNITS = 10  # of a class: fewer would leave little to chance


@dataclass(slots=True)
class Permutations:
    """Permutations that are drawn one after the other, and how many instances they left with labels of their unit."""

    draws: np.random.PCG64
    unit: NDArray[np.int64]  # code of what keeps its labels together [instances]
    stratum: NDArray[np.int64]  # code of what labels do not leave [instances]
    is_plain: bool = False  # whether each instance is a unit, and all are of one stratum
    is_ordered: bool = True  # whether labels of a unit keep their order, the last followed by the first
    n_drawn: int = 0
    n_kept: int = 0

    def draw(self, instance: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each of some instances the place among them that its labels move to [instances]."""
        if self.is_plain:
            return _random_order(len(instance), self.draws)
        pairs = np.stack([self.stratum[instance], self.unit[instance]])
        (of_unit, _), unit, size = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
        class_of_unit = _classes(of_unit, size)
        largest = np.zeros(class_of_unit.max() + 1, np.int64)
        np.maximum.at(largest, class_of_unit, size)
        within = _random_order(len(unit), self.draws)
        if self.is_ordered:  # but begins anywhere: labels kept in their places would go by what neurons make of places
            by_unit = np.argsort(unit, kind="stable")
            within[by_unit] = np.arange(len(unit)) - (np.cumsum(size) - size)[unit[by_unit]]
            turn = self.draws.random_raw(len(size)).astype(np.int64) % size
            within = (within + turn[unit]) % size[unit]
        # Instances by class, then by unit in random order: their labels move on within the class.
        order = np.lexsort((within, _random_order(len(size), self.draws)[unit], class_of_unit[unit]))
        in_class = class_of_unit[unit[order]]
        n_in_class = np.bincount(in_class)
        start = (np.cumsum(n_in_class) - n_in_class)[in_class]
        moved = np.empty_like(order)
        moved[order] = order[start + (np.arange(len(order)) - start + largest[in_class]) % n_in_class[in_class]]
        self.n_drawn += len(moved)
        self.n_kept += int((unit == unit[moved]).sum())
        return moved

    def permute(
        self,
        instance: NDArray[np.int64],
        function: NDArray[np.int32],
        is_positive: NDArray[_Value],
        rest: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], NDArray[_Value]]:
        """Return instance and value of labels permuted as `read_shuffled` says; `rest` [functions], others [labels]."""
        instance, is_positive, moves = instance.copy(), is_positive.copy(), rest[function]
        if moves.any():
            instance[moves] = self.draw(np.arange(len(self.unit)))[instance[moves]]
        drawn: dict[bytes, NDArray[np.int64]] = {}  # by the instances that a function labels
        stays = np.flatnonzero(~moves)
        stays = stays[np.lexsort((instance[stays], function[stays]))]
        for rows in np.split(stays, np.cumsum(np.bincount(function[stays]))[:-1]):
            if len(rows):
                labelled = hashlib.sha256(instance[rows].tobytes()).digest()
                if labelled not in drawn:
                    drawn[labelled] = self.draw(instance[rows])
                is_positive[rows] = is_positive[rows][drawn[labelled]]
        return instance, is_positive


@dataclass(frozen=True, slots=True)
class ControlLabels:
    """The labels of a run's instances, permuted."""

    control: ControlTask
    draw: int  # number of the permutation, and its seed
    labels: LabelIndex
    n_kept: int  # instances that kept a label of their own unit, for want of others, over all functions that move alone


def default_control(stored: StoredCorpus) -> ControlTask:
    """Return the strictest control task that a corpus allows: by word (in its stratum), group, text or instance."""
    if (stored.words() < 0).all():
        return "word-in-stratum" if len(stored.strata().dictionary) else "word"
    text = stored.instances().text
    return "group" if stored.has_groups else "text" if len(np.unique(text)) < len(text) else "instance"


def control_labels(
    stored: StoredCorpus, labels: LabelIndex, instance_id: NDArray[np.int64], control: ControlTask, draw: int
) -> ControlLabels:
    """Return the labels of instances permuted, given by their ids [instances]; counts stay the same."""
    by, within = ("word", "stratum") if control == "word-in-stratum" else (control, None)
    # In the order of ids: labels are those of the corpus shuffled, in whatever order its instances were run.
    order = np.argsort(instance_id)
    permutations = permutations_of(stored, instance_id[order], by, within, draw)
    place = np.argsort(order)[labels.instance]
    place, is_positive = permutations.permute(place, labels.function, labels.is_positive, labels.is_rest)
    before, after = (
        (labels.function * np.int64(labels.n_instances) + of)[value == 1]
        for of, value in ((labels.instance, labels.is_positive), (order[place], is_positive))
    )
    moved = np.bincount(after[~np.isin(after, before)] // labels.n_instances, minlength=len(labels.functions)) > 0
    if not moved.any():
        raise IngestError(f"corpus {stored.name}: no label can move by {control}; another control may do")
    permuted = LabelIndex.build(  # without what has not moved, as what the strata fix: it would be its own control
        labels.functions,
        is_rest=labels.is_rest,
        half=labels.half,
        instance=order[place],
        function=labels.function,
        is_positive=is_positive,
    )
    return ControlLabels(control, draw, permuted.only(moved), permutations.n_kept)


def permutations_of(
    stored: StoredCorpus, instance_id: NDArray[np.int64], by: str, within: str | None, seed: int
) -> Permutations:
    """Return what draws permutations of instances, given by their ids [instances]."""
    check_known("shuffle by", [by], get_args(ShuffleUnit))
    check_known("shuffle within", [within or "stratum"], ["stratum"])
    if by == "group" and not stored.has_groups:
        raise IngestError(f"corpus {stored.name}: no text has a split group; shuffle it by instance, text or word")
    unit, stratum = np.arange(len(instance_id)), np.zeros(len(instance_id), np.int64)
    if by != "instance":
        unit = stored.words()[instance_id] if by == "word" else stored.clusters(instance_id)[by]
    n_without_word = int((unit >= 0).sum())
    if by == "word" and n_without_word:
        problem = f"{n_without_word:,} of {len(unit):,} instances are no words but whole texts without a lemma"
        raise IngestError(f"corpus {stored.name}: {problem}; shuffle it by instance, text or group")
    if within:
        strata = stored.strata()
        if not len(strata.dictionary):
            problem = f"corpus {stored.name}: no instance has a stratum; build it anew under another name"
            raise IngestError(f"{problem}, from a source that has them (a column 'stratum', SemCor, CoNLL-U)")
        stratum = pc.fill_null(strata.indices, -1).to_numpy().astype(np.int64)[instance_id]
    is_plain = by == "instance" and not within
    return Permutations(np.random.PCG64(seed), unit, stratum, is_plain=is_plain, is_ordered=by != "word")


def _classes(stratum: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class of each unit, given its stratum, in which they are sorted, and its number of instances."""
    order = np.lexsort((-size, stratum))
    stratum, size = stratum[order], size[order]
    before = np.concatenate([[0], np.cumsum(size)])
    starts, first_of_stratum = [0], 0
    for end in [*np.flatnonzero(np.diff(stratum) | np.diff(size)) + 1, len(size)]:
        start = starts[-1]
        is_whole = end - start >= _FEWEST_UNITS and before[end] - before[start] >= 2 * size[start]
        if end == len(size) or stratum[end] != stratum[start]:
            if not is_whole and start > first_of_stratum:
                starts.pop()  # too few are left: they go to the class before
            first_of_stratum = end
        if is_whole or first_of_stratum == end:
            starts.append(end)
    classes = np.empty_like(size)
    classes[order] = np.searchsorted(starts[:-1], np.arange(len(size)), side="right") - 1
    return classes


def _random_order(size: int, draws: np.random.PCG64) -> NDArray[np.int64]:
    """Return a random order of ``range(size)``: of a generator numpy keeps the bits alone the same between versions."""
    return np.argsort(draws.random_raw(size), kind="stable")


def read_shuffled(
    corpus: str,
    *,
    store: str | os.PathLike[str],
    by: ShuffleUnit = "instance",
    within: Literal["stratum"] | None = None,
    seed: int = 0,
) -> Source:
    """Return a source of the instances of a stored corpus, with the labels permuted among them.

    Texts, targets, spans, split groups, ids and the counts of each function stay the same. Where unlabelled means
    negative (`rest`), all labels of an instance move together to another. Where negatives are `explicit`, the labels of
    a function are permuted among the instances that have one, alike for functions that label the same instances.

    Parameters
    ----------
    corpus, store
        Name of the corpus, and the folder of its store.
    by
        What keeps its labels together. ``instance``: nothing. ``text``, ``group``: the labels of a text, or of a split
        group, move to another with about as many instances, in their order, which begins anywhere and goes round: so
        labels by their place in a text are chance too. ``word``: those of a word move to another word of like
        frequency, at random over its occurrences: the control task of Hewitt and Liang (2019). The word is the lemma,
        or else the span's characters, casefolded.
    within
        ``stratum``: labels stay in their stratum (`Instance`), and what moves together is what a text, group or word
        has there. Instances without a stratum make one of their own.
    seed
        Seed of the permutations, not negative.

    Raises
    ------
    UnknownNameError, StoreError
        If the store has no such corpus; here or while reading, if a file of the corpus is missing or damaged.
    IngestError
        If only some of its functions have explicit negatives, or if its instances have no words, groups or strata to
        go by; while reading, if no label can move.

    Notes
    -----
    A word that is the only one of its stratum, or of the instances of an explicit function, keeps its labels, and one
    that makes more than half of them keeps some; so for texts and groups. `dropped` counts such instances.

    Examples
    --------
    >>> source = neuronlake.read_shuffled("animals", store="neuronlake-store", seed=1)
    >>> neuronlake.build_corpus(source, "animals-shuffled", store="neuronlake-store").n_instances
    80
    """
    stored, reading = StoredCorpus(Store(store), corpus), Reading()
    (row,) = stored.read("corpora", "licence", "source").to_pylist()
    functions = stored.functions()
    n_rest = sum(function["negatives"] == "rest" for function in functions)
    if 0 < n_rest < len(functions):
        kinds = f"the rest in {n_rest} of {len(functions)} functions and explicit in the others"
        raise IngestError(f"corpus {corpus}: negatives are {kinds}; only a corpus of one kind can be shuffled")
    descriptions = {f"{function['family']}/{function['function']}": function["description"] for function in functions}
    everything = np.arange(stored.read("instances", "instance_id").num_rows)
    permutations = permutations_of(stored, everything, by, within, seed)
    labels = _labels(stored, list(descriptions), permutations, reading, is_rest=n_rest > 0)
    how = f" by {by}" * (by != "instance") + f" within {within}" * (within is not None)
    return Source(
        instances=_instances(stored, labels),
        description=f"labels of {corpus} permuted{how}, seed {seed}",
        licence=row["licence"],
        origin=f"shuffled: {corpus} ({row['source']})",
        negatives="rest" if n_rest else "explicit",
        descriptions={name: text for name, text in descriptions.items() if text is not None},
        reading=reading,
    )


def _instances(stored: StoredCorpus, labels: Iterator[dict[str, bool]]) -> Iterator[Instance]:
    """Yield all instances in the order stored, from which the builder makes the same ids again."""
    texts = stored.read("texts", "text", "target", "split_group").columns
    columns = ("text_id", "start_char", "end_char", "source_id", "lemma", "stratum")
    for batch in stored.batches("instances", *columns):
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        # Spans of one text mostly follow each other, and share one copy of it.
        for text_id, spans in itertools.groupby(rows, key=lambda row: row[0]):
            text, target, split_group = (column[text_id].as_py() for column in texts)
            for _, start, end, source_id, lemma, stratum in spans:
                yield Instance(text, next(labels), start, end, target, source_id, split_group, lemma, stratum)


def _labels(
    stored: StoredCorpus, names: list[str], permutations: Permutations, reading: Reading, *, is_rest: bool
) -> Iterator[dict[str, bool]]:
    instance, function, is_positive = stored.labels()
    instance, is_positive = permutations.permute(instance, function, is_positive, np.full(len(names), is_rest))
    order = np.argsort(instance, kind="stable")
    instance, function, is_positive = instance[order], function[order], is_positive[order]
    if permutations.n_kept:
        if permutations.n_kept == permutations.n_drawn:
            why = "none of its functions (or strata) has instances of two such units"
            raise IngestError(f"corpus {stored.name}: no label can move, as {why}; shuffle it by instance")
        reading.dropped["instance with labels of its own unit, for want of others"] += permutations.n_kept
    ends = np.cumsum(np.bincount(instance, minlength=len(permutations.unit))).tolist()
    for start, end in itertools.pairwise([0, *ends]):
        codes, values = function[start:end].tolist(), is_positive[start:end].tolist()
        yield {names[code]: value for code, value in zip(codes, values, strict=True)}
