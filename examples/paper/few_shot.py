"""Table 3: a Switch Transformer learns a task from few examples while its router may choose some experts alone."""

import contextlib
import csv
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, SwitchTransformersForConditionalGeneration

import neuronlake

from .tasks import TASKS, Rows

Experts = Mapping[int, Sequence[int]]
"""By layer of the encoder, the experts that its router may choose; other layers are not restricted."""


@dataclass(frozen=True)
class Training:
    """How the authors trained: what is left unsaid (Adam's other values, dropout of .1) is as they left it."""

    tasks: tuple[str, ...] = ("cola", "mnli", "mrpc", "rte", "qnli", "qqp", "sst2")
    n_examples: int = 128
    n_seeds: int = 8
    n_epochs: int | None = None  # None for those of each task
    rate: float = 2e-4
    batch: int = 16
    steps_between: int = 4  # between two times that the validation set is read
    first_layer: int = 8  # of the encoder, from which on second matrices and routers are trained, nothing else
    n_validation: int | None = None  # None for that of each task


def train(
    checkpoint: str,
    rows: Rows,
    functional: Mapping[str, Experts],
    training: Training,
    file: Path,  # rows of tasks, strategies and seeds
    *,
    name: str,
    words: Mapping[int, int] | None = None,
) -> None:
    """Write the accuracy of each task, strategy and seed to a CSV file, and go on where it ends.

    Strategies are the paper's: ``functional`` restricts each layer to the experts that are functional for the task,
    ``other`` to as many drawn among the rest, ``unrestricted`` does neither. `accuracy` is the best of all readings of
    the validation set, as in the paper; `held_out` is read on every second row at the step that is best on the others.
    """
    columns = ("model", "task", "strategy", "seed", "n_layers", "accuracy", "held_out")
    known = set()
    if file.is_file():
        known = {(row["task"], row["strategy"], int(row["seed"])) for row in csv.DictReader(file.open())}
    else:
        file.write_text(",".join(columns) + "\n")
    for task in training.tasks:
        for seed in range(training.n_seeds):
            for strategy in ("unrestricted", "functional", "other"):
                if (task, strategy, seed) in known:
                    continue
                allowed = _allowed(functional.get(task, {}), strategy, seed)
                best, held_out = _run(checkpoint, rows, task, allowed, seed, training, words)
                row = (name, task, strategy, seed, len(allowed), round(best, 6), round(held_out, 6))
                with file.open("a", newline="") as lines:
                    csv.writer(lines, lineterminator="\n").writerow(row)


def _allowed(functional: Experts, strategy: str, seed: int, n_experts: int = 16) -> Experts:
    if strategy == "functional":
        return functional
    if strategy == "unrestricted":
        return {}
    generator = random.Random(seed)
    others = {layer: [each for each in range(n_experts) if each not in own] for layer, own in functional.items()}
    return {layer: generator.sample(others[layer], len(own)) for layer, own in functional.items()}


def _run(
    checkpoint: str,
    rows: Rows,
    name: str,
    allowed: Experts,
    seed: int,
    training: Training,
    words: Mapping[int, int] | None,
) -> tuple[float, float]:
    few_shot = TASKS[name].few_shot
    assert few_shot is not None
    given = words or few_shot.words
    words = {label: given[label] for label in few_shot.words}
    torch.manual_seed(seed)
    generator = random.Random(seed)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    # A router that may choose one expert sends it all tokens: with a capacity some would find no room.
    model = SwitchTransformersForConditionalGeneration.from_pretrained(checkpoint, expert_capacity=1 << 20)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    sentinel = tokenizer.convert_tokens_to_ids("<extra_id_0>")
    classes = sorted(words)

    def encoded(some: Sequence[dict[str, Any]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        texts = [few_shot.prompt.format(**row) for row in some]
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt").to(model.device)
        labels = torch.tensor([[sentinel, words[row["label"]]] for row in some], device=model.device)
        return {"input_ids": inputs.input_ids, "attention_mask": inputs.attention_mask}, labels

    @torch.inference_mode()
    def right(some: Sequence[dict[str, Any]]) -> torch.Tensor:
        model.eval()
        found = []
        for first in range(0, len(some), 64):
            part = some[first : first + 64]
            inputs, labels = encoded(part)
            logits = model(**inputs, labels=labels).logits[:, 1, [words[each] for each in classes]]
            found.append(logits.argmax(-1).cpu() == torch.tensor([classes.index(row["label"]) for row in part]))
        return torch.cat(found).float()

    examples = generator.sample(rows(name, "train"), training.n_examples)
    validation = rows(name, "validation")
    most = training.n_validation or few_shot.n_validation
    validation = generator.sample(validation, min(most or len(validation), len(validation)))
    optimizer = torch.optim.Adam(_trained(model, training.first_layer), lr=training.rate)
    width = model.config.d_ff
    kept = [
        ("encoder", layer, expert * width + unit)
        for layer, experts in allowed.items()
        for expert in experts
        for unit in range(width)
    ]
    readings = []
    with neuronlake.ablate(model, kept, kind="route-only") if kept else contextlib.nullcontext():
        step = 0
        for _ in range(training.n_epochs or few_shot.epochs):
            order = generator.sample(examples, len(examples))
            for first in range(0, len(order), training.batch):
                inputs, labels = encoded(order[first : first + training.batch])
                model.train()(**inputs, labels=labels).loss.backward()
                optimizer.step()
                model.zero_grad()
                if step % training.steps_between == 0:
                    readings.append(right(validation))
                step += 1
    accuracy = torch.stack(readings)  # [readings, rows]
    chosen = accuracy[:, ::2].mean(1).argmax()
    return float(accuracy.mean(1).max()), float(accuracy[chosen, 1::2].mean())


def _trained(model: SwitchTransformersForConditionalGeneration, first_layer: int) -> list[torch.nn.Parameter]:
    """Return what is trained: in the last layers of the encoder the second matrices, of experts too, and routers."""
    return [
        parameter
        for number, block in enumerate(model.get_encoder().block)
        if number >= first_layer
        for name, parameter in block.layer[-1].named_parameters()
        if ".wo." in name or ".router." in name
    ]
