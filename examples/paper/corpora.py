"""The two corpora: texts whose functions score neurons, and the tasks with the answers that T5 is asked for."""

import dataclasses
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neuronlake import Instance, Source, read_semcor, read_trex

from .tasks import CHOSEN, OTHERS, TASKS, Rows

FUNCTIONS, ANSWERS = "paper-functions", "paper-answers"
_MOST = 1000  # texts of a class, as the authors drew them


def functions_of_texts(rows: Rows, words: Iterator[Instance], facts: Iterator[Instance]) -> Source:
    """Return the texts of the three families: a word's two senses, true and false facts, the classes of tasks.

    An instance is a whole text, as in the paper.
    """
    whole = (dataclasses.replace(each, start=None, end=None) for each in itertools.chain(words, facts))
    texts = itertools.chain(_tasks(rows), whole)
    return Source(texts, "the paper's three families", licence=None, origin="paper", negatives="explicit")


def answers_of_tasks(rows: Rows) -> Source:
    """Return the tasks of Figure 2 with their answers; all texts of a task are positives of one function.

    Accuracy on the positives of a function, which is what the readout ``choice`` gives, is then accuracy on the task.
    """
    texts = (
        Instance(text, {f"{name}/answers": True}, target=TASKS[name].answers[label])
        for name in (*CHOSEN, *OTHERS)
        for text, label in _texts(rows, name)
    )
    return Source(texts, "tasks and the answers to them", licence=None, origin="paper", negatives="rest")


def word_senses(semcor: Path) -> Iterator[Instance]:
    """Yield the words of SemCor that have two senses of twenty occurrences or more."""
    return iter(read_semcor(semcor, labels="word-senses").instances)


def facts(trex: Path) -> Iterator[Instance]:
    """Yield the facts of T-REx's relations, true and false."""
    return iter(read_trex(trex, cap=_MOST).instances)


def _tasks(rows: Rows) -> Iterator[Instance]:
    for name, task in TASKS.items():
        if task.functions:
            for text, label in _texts(rows, name):
                sides = {
                    f"task/{function}": label in positive
                    for function, (positive, negative) in task.functions.items()
                    if label in (*positive, *negative)
                }
                if sides:
                    yield Instance(text, sides)


def _texts(rows: Rows, name: str) -> Iterator[tuple[str, int]]:
    """Yield the texts of a task's validation set with their classes, at most 1,000 of a class."""
    by_class: dict[int, list[dict[str, Any]]] = {}
    for row in rows(name, "validation"):
        by_class.setdefault(int(row["label"]), []).append(row)
    for label, own in sorted(by_class.items()):
        for row in own if len(own) <= _MOST else random.Random(f"{name} {label}").sample(own, _MOST):
            yield TASKS[name].prompt.format(**row), label
