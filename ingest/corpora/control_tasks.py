"""Control tasks of a corpus: its labels permuted, while what shares a text, a group or a word keeps them together.

A neuron that detects such a function detects texts or words, not the function: what a study finds of the real labels
and not of these is about the function (Hewitt and Liang 2019, "Designing and Interpreting Probes with Control Tasks").
"""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...errors import IngestError, UnknownNameError
from ...schema.vocabulary import ControlTask, ShuffleUnit
from .labels import LabelIndex
from .permutations import Permutations
from .stored import StoredCorpus


@dataclass(frozen=True, slots=True)
class ControlLabels:
    """The labels of a run's instances, permuted."""

    control: ControlTask
    draw: int  # number of the permutation, and its seed
    labels: LabelIndex
    n_kept: int  # instances that kept a label of their own unit, for want of others, over all functions that move alone


def default_control(stored: StoredCorpus) -> ControlTask:
    """Return the strictest control task that a corpus allows.

    By word within strata, or else by word, where all instances have words; else by group of texts, or by text where
    texts hold several instances; by instance where there is nothing to go by.
    """
    if (stored.words() < 0).all():
        return "word-in-stratum" if len(stored.strata().dictionary) else "word"
    text = stored.instances().text
    return "group" if stored.has_groups else "text" if len(np.unique(text)) < len(text) else "instance"


def control_labels(
    stored: StoredCorpus,
    labels: LabelIndex,
    instance_id: NDArray[np.int64],
    text: NDArray[np.int64],
    control: ControlTask,
    draw: int,
) -> ControlLabels:
    """Return the labels of instances permuted, given by their ids and their texts' [instances]; counts stay the same.

    A function of which no label has moved is left out, as one that the strata fix: it would be its own control. Raises
    IngestError if the corpus lacks what labels are to go by, or none of them can move.
    """
    by, within = ("word", "stratum") if control == "word-in-stratum" else (control, None)
    # In the order of ids: labels are those of the corpus shuffled, in whatever order its instances were run.
    order = np.argsort(instance_id)
    permutations = permutations_of(stored, instance_id[order], text[order], by, within, draw)
    place = np.argsort(order)[labels.instance]
    place, is_positive = permutations.permute(place, labels.function, labels.is_positive, labels.is_rest)
    before, after = (
        (labels.function * np.int64(labels.n_instances) + of)[value == 1]
        for of, value in ((labels.instance, labels.is_positive), (order[place], is_positive))
    )
    moved = np.bincount(after[~np.isin(after, before)] // labels.n_instances, minlength=len(labels.functions)) > 0
    if not moved.any():
        raise IngestError(f"corpus {stored.name}: no label can move by {control}; another control may do")
    permuted = LabelIndex.build(
        labels.functions,
        is_rest=labels.is_rest,
        half=labels.half,
        instance=order[place],
        function=labels.function,
        is_positive=is_positive,
    )
    return ControlLabels(control, draw, permuted.only(moved), permutations.n_kept)


def permutations_of(
    stored: StoredCorpus,
    instance_id: NDArray[np.int64],
    text: NDArray[np.int64],
    by: str,
    within: str | None,
    seed: int,
) -> Permutations:
    """Return what draws permutations of instances, given by their ids and their texts' [instances].

    Raises UnknownNameError or IngestError if the corpus lacks what labels are to go by.
    """
    for what, name, known in (("by", by, get_args(ShuffleUnit)), ("within", within or "stratum", ("stratum",))):
        if name not in known:
            raise UnknownNameError(f"shuffle {what}", name, known)
    stratum = np.zeros(len(text), np.int64)
    if by == "instance":
        unit = np.arange(len(text))
    else:
        unit = stored.words()[instance_id] if by == "word" else stored.clusters(instance_id, text)[by]
    n_without_word = int((unit >= 0).sum())
    if by == "word" and n_without_word:
        raise IngestError(
            f"corpus {stored.name}: {n_without_word:,} of {len(text):,} instances are no words but whole texts without "
            "a lemma; shuffle it by instance, text or group"
        )
    if by == "group" and not stored.has_groups:
        raise IngestError(f"corpus {stored.name}: no text has a split group; shuffle it by instance, text or word")
    if within:
        strata = stored.strata()
        if not len(strata.dictionary):
            raise IngestError(
                f"corpus {stored.name}: no instance has a stratum; build it anew under another name, from a source "
                "that has them (a column 'stratum', SemCor, CoNLL-U)"
            )
        stratum = pc.fill_null(strata.indices, -1).to_numpy().astype(np.int64)[instance_id]
    is_plain = by == "instance" and not within
    return Permutations(np.random.PCG64(seed), unit, stratum, is_plain=is_plain, is_ordered=by != "word")
