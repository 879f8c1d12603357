"""The paper's tasks: seven sets of GLUE and three of SuperGLUE, as T5 was trained to answer them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from neuronlake.errors import IngestError

Rows = Callable[[str, str], list[dict[str, Any]]]
"""From the name of a task and a split, ``validation`` or ``train``, to its rows."""


@dataclass(frozen=True)
class FewShot:
    """How a Switch Transformer, which has seen no task, is asked: Table 3."""

    prompt: str
    words: Mapping[int, int]  # by class of the set, the token of T5's vocabulary that stands for it
    epochs: int
    n_validation: int | None = None  # rows that are read out; None for all


@dataclass(frozen=True)
class Task:
    """A set, T5's prompt for it, and the binary functions of its classes."""

    dataset: str
    prompt: str
    answers: tuple[str, ...]  # by class of the set
    # By function, the positive and the negative classes; none where neurons are not scored on the task
    functions: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    few_shot: FewShot | None = None


GLUE, SUPERGLUE = "nyu-mll/glue", "aps/super_glue"
NO, MAYBE, YES = 465, 3836, 2163
CHOSEN = ("cola", "mrpc", "qqp", "sst2")
"""Whose neurons Figure 2 perturbs; its right part reads `OTHERS`."""
OTHERS = ("boolq", "cb", "mnli", "multirc", "qnli")

TASKS: Mapping[str, Task] = {
    "cola": Task(
        GLUE,
        "cola sentence: {sentence}",
        ("unacceptable", "acceptable"),
        {"cola": ((1,), (0,))},
        FewShot("{sentence} This is <extra_id_0> .", {0: 12153, 1: 2024}, 100),
    ),
    "mnli": Task(
        GLUE,
        "mnli hypothesis: {hypothesis} premise: {premise}",
        ("entailment", "neutral", "contradiction"),
        {"mnli-neutral": ((1,), (0, 2)), "mnli-contradiction": ((2,), (0,))},
        FewShot("{hypothesis} ? <extra_id_0> , {premise}", {0: YES, 1: MAYBE, 2: NO}, 300, 1000),
    ),
    "mrpc": Task(
        GLUE,
        "mrpc sentence1: {sentence1} sentence2: {sentence2}",
        ("not_equivalent", "equivalent"),
        {"mrpc": ((1,), (0,))},
        FewShot("{sentence1} <extra_id_0> , {sentence2}", {0: NO, 1: YES}, 50),
    ),
    "qnli": Task(
        GLUE,
        "qnli question: {question} sentence: {sentence}",
        ("entailment", "not_entailment"),
        {"qnli": ((1,), (0,))},
        FewShot("{question} ? <extra_id_0> , {sentence}", {0: YES, 1: NO}, 300, 1000),
    ),
    "qqp": Task(
        GLUE,
        "qqp question1: {question1} question2: {question2}",
        ("not_duplicate", "duplicate"),
        {"qqp": ((1,), (0,))},
        FewShot("{question1} <extra_id_0> , {question2}", {0: NO, 1: YES}, 150, 1000),
    ),
    "rte": Task(
        GLUE,
        "rte sentence1: {sentence1} sentence2: {sentence2}",
        ("entailment", "not_entailment"),
        {"rte": ((1,), (0,))},
        FewShot("{sentence1} ? <extra_id_0> , {sentence2}", {0: YES, 1: NO}, 100),
    ),
    "sst2": Task(
        GLUE,
        "sst2 sentence: {sentence}",
        ("negative", "positive"),
        {"sst2": ((1,), (0,))},
        FewShot("{sentence} It was <extra_id_0> .", {0: 9412, 1: 248}, 200),
    ),
    "boolq": Task(SUPERGLUE, "boolq question: {question} passage: {passage}", ("False", "True")),
    "cb": Task(SUPERGLUE, "cb hypothesis: {hypothesis} premise: {premise}", ("entailment", "contradiction", "neutral")),
    "multirc": Task(
        SUPERGLUE, "multirc question: {question} answer: {answer} paragraph: {paragraph}", ("False", "True")
    ),
}


def read_hub(name: str, split: str) -> list[dict[str, Any]]:
    """Return the rows of a split from the Hub."""
    import datasets

    dataset = TASKS[name].dataset
    part = "validation_matched" if (name, split) == ("mnli", "validation") else split
    try:
        return list(datasets.load_dataset(dataset, name, split=part))
    except OSError as error:  # of the network as well
        raise IngestError(f"cannot load {name} of {dataset} from the Hub: {str(error).splitlines()[0]}") from error
