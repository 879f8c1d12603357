"""Pre-train a small T5 or Switch Transformer from scratch, and keep checkpoints: a series of one's own to study.

    python examples/pretrain.py TEXTS... --output series/dense-0 --kind dense --seed 0
    neuronlake ingest series/dense-0 --revisions 'step*' --corpus semcor

TEXTS are .txt files, one text a line, or .parquet, .csv and .jsonl files with a column ``text``; from a store,
``neuronlake sql "select text from texts where corpus = 'semcor'" -o semcor.parquet``. The objective is T5's span
corruption (Raffel et al. 2020, arXiv 1910.10683: 15% of tokens, spans of 3 on average), without dropout. The mixture
of experts is Switch's (Fedus et al. 2022, arXiv 2101.03961): top-1 routing in every second layer, balanced by its
auxiliary loss. Both are made for a CPU: minutes to an hour. What they can show is how small models develop.

Checkpoints are log-spaced, step 0 included, each a folder that transformers loads, written whole or not at all. Run
again, a series that was cut short goes on from its last checkpoint and ends as it would have: every draw depends on
the seed and the step alone.
"""

import csv
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SwitchTransformersConfig,
    SwitchTransformersForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.utils import logging

PAD, EOS = 0, 1
N_SENTINELS = 32
NOISE_SHARE, SPAN_LENGTH = 0.15, 3.0
# The share of texts that are never trained on; the loss of a checkpoint is theirs.
HELD_OUT_SHARE = 0.02


@dataclass(frozen=True)
class Plan:
    """What defines a series. Two runs with the same plan on the same texts make the same checkpoints."""

    kind: str
    seed: int
    steps: tuple[int, ...]
    width: int
    neurons: int
    layers: int
    experts: int
    vocabulary: int
    batch: int
    length: int
    rate: float
    warmup: int


def read_texts(files: Sequence[Path]) -> list[str]:
    """Return the texts of files, except those without a letter."""
    texts: list[str] = []
    for file in files:
        match file.suffix:
            case ".txt":
                texts += file.read_text(encoding="utf-8").splitlines()
            case ".parquet" | ".csv" | ".jsonl":
                read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[file.suffix]
                columns = read(file)
                if "text" not in columns.columns:
                    raise click.ClickException(f"{file} has no column text; it has {', '.join(columns.columns)}")
                texts += columns["text"].drop_nulls().to_list()
            case _:
                raise click.ClickException(f"{file} is not a .txt, .parquet, .csv or .jsonl file")
    texts = [text for text in texts if any(map(str.isalpha, text))]
    if not texts:
        raise click.ClickException(f"no text in {', '.join(map(str, files))}")
    return texts


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of these texts, with T5's ``</s>`` and sentinels."""
    sentinels = [f"<extra_id_{index}>" for index in range(N_SENTINELS)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["<pad>", "</s>", "<unk>", *sentinels],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=sentinels,
    )


def build(plan: Plan) -> PreTrainedModel:
    """Return the model as it is initialised, with ReLU neurons."""
    shape = {
        "vocab_size": plan.vocabulary,
        "d_model": plan.width,
        "d_ff": plan.neurons,
        "d_kv": 32,
        "num_heads": plan.width // 32,
        "num_layers": plan.layers,
        "num_decoder_layers": 2,
        "dropout_rate": 0.0,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "decoder_start_token_id": PAD,
    }
    torch.manual_seed(plan.seed)
    if plan.kind == "dense":
        return T5ForConditionalGeneration(T5Config(feed_forward_proj="relu", **shape))
    return SwitchTransformersForConditionalGeneration(
        SwitchTransformersConfig(
            num_experts=plan.experts,
            # No token is ever dropped, in training as in measurement.
            expert_capacity=plan.length,
            num_sparse_encoder_layers=plan.layers // 2,
            num_sparse_decoder_layers=1,
            router_aux_loss_coef=0.01,
            **shape,
        )
    )


def tokenize(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, length: int) -> NDArray[np.int64]:
    """Return all texts one after the other, cut into rows [rows, length]."""
    encoded = tokenizer(list(texts), add_special_tokens=True)["input_ids"]
    tokens = np.concatenate([np.asarray(text, dtype=np.int64) for text in encoded])
    n_rows = len(tokens) // length
    return tokens[: n_rows * length].reshape(n_rows, length)


def corrupt(row: NDArray[np.int64], generator: np.random.Generator, first_sentinel: int) -> tuple[list[int], list[int]]:
    """Return a row with spans replaced by sentinels, and what the spans were, sentinel by sentinel."""
    n_noise = max(1, round(len(row) * NOISE_SHARE))
    n_spans = min(max(1, round(n_noise / SPAN_LENGTH)), N_SENTINELS)
    noise, kept = (_segments(n, n_spans, generator) for n in (n_noise, len(row) - n_noise))
    source: list[int] = []
    target: list[int] = []
    position = 0
    for span in range(n_spans):
        source += [*row[position : position + kept[span]], first_sentinel + span]
        position += kept[span]
        target += [first_sentinel + span, *row[position : position + noise[span]]]
        position += noise[span]
    return [*source, EOS], [*target, EOS]


def _segments(n_items: int, n_segments: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the lengths of consecutive segments, each at least 1, all divisions equally likely."""
    cuts = np.sort(generator.choice(n_items - 1, n_segments - 1, replace=False)) + 1
    return np.diff([0, *cuts, n_items])


def batches(rows: NDArray[np.int64], plan: Plan, first: int, *, key: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the batches of the steps from `first` on; every epoch has an order of its own."""
    n_batches = max(1, len(rows) // plan.batch)
    sentinel = 3  # behind <pad>, </s> and <unk>
    step = first
    while True:
        epoch, place = divmod(step, n_batches)
        order = np.random.default_rng([plan.seed, key, epoch]).permutation(len(rows))
        generator = np.random.default_rng([plan.seed, key + 1, step])
        chosen = rows[order[place * plan.batch : (place + 1) * plan.batch]]
        pairs = [corrupt(row, generator, sentinel) for row in chosen]
        yield {
            "input_ids": torch.tensor([source for source, _ in pairs]),
            "labels": torch.tensor([target for _, target in pairs]),
        }
        step += 1


@torch.inference_mode()
def held_out_loss(model: PreTrainedModel, rows: NDArray[np.int64], plan: Plan) -> float:
    """Return the mean loss over the same corruptions of the same texts, in nats a token."""
    losses = []
    for _, batch in zip(range(max(1, min(8, len(rows) // plan.batch))), batches(rows, plan, 0, key=7), strict=False):
        losses.append(float(model(**batch).loss))
    return float(np.mean(losses))


def learning_rate(step: int, plan: Plan) -> float:
    """Return T5's: constant, then falling with the inverse square root of the step; here after a linear warm-up."""
    return plan.rate * min((step + 1) / plan.warmup, (plan.warmup / (step + 1)) ** 0.5)


def log_spaced(last: int, count: int) -> tuple[int, ...]:
    """Return 0 and `count` - 1 steps of equal ratio up to `last`, the first of them at least 1."""
    least = max(1.0, last / 2 ** ((count - 2) / 2))  # a factor of the square root of 2 apart, or less
    steps = np.unique(np.rint(np.geomspace(least, last, count - 1)).astype(int))
    return (0, *map(int, steps))


def save(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, optimizer: torch.optim.Optimizer
) -> None:
    """Write a checkpoint whole: a folder of this name is complete."""
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    torch.save(optimizer.state_dict(), partial / "optimizer.pt")
    partial.replace(folder)
    for other in folder.parent.glob("step*/optimizer.pt"):
        if other.parent != folder:
            other.unlink()


def resume(output: Path, plan: Plan, texts: Sequence[str]) -> int | None:
    """Return the step of the last checkpoint, None if there is none; refuse a folder of another plan or other texts."""
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    described = json.dumps({**plan.__dict__, "texts_sha256": digest}, indent=2, default=list) + "\n"
    record = output / "plan.json"
    if record.is_file() and record.read_text() != described:
        raise click.ClickException(f"{output} holds a series of another plan or of other texts: see {record}")
    output.mkdir(parents=True, exist_ok=True)
    record.write_text(described)
    kind = {"dense": "T5", "moe": "Switch Transformer"}[plan.kind]
    (output / "README.md").write_text(
        f"A small {kind} pre-trained from scratch by neuronlake's examples/pretrain.py, seed {plan.seed}; no published "
        "model. plan.json says how, log.csv how the loss fell.\n"
    )
    return max((step for step in plan.steps if (output / f"step{step}" / "optimizer.pt").is_file()), default=None)


@click.command()
@click.argument("texts", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the series.")
@click.option("--kind", type=click.Choice(["dense", "moe"]), default="dense", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--steps", "last", type=click.IntRange(min=2), default=4096, show_default=True)
@click.option("--checkpoints", "count", type=click.IntRange(min=3), default=21, show_default=True)
@click.option("--width", type=click.IntRange(min=32), default=128, show_default=True)
@click.option("--neurons", type=click.IntRange(min=1), default=512, show_default=True, help="In a layer or an expert.")
@click.option("--layers", type=click.IntRange(min=2), default=4, show_default=True, help="In the encoder.")
@click.option("--experts", type=click.IntRange(min=2), default=8, show_default=True, help="In a sparse layer; moe.")
@click.option("--vocabulary", type=click.IntRange(min=300), default=4096, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Rows of a step.")
@click.option("--length", type=click.IntRange(min=16), default=128, show_default=True, help="Tokens of a row.")
@click.option("--rate", type=float, default=2e-3, show_default=True, help="Highest learning rate.")
@click.option("--warmup", type=click.IntRange(min=1), default=128, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def pretrain(texts: tuple[Path, ...], output: Path, last: int, count: int, threads: int, **options: object) -> None:
    """Pre-train a small model on TEXTS and keep its checkpoints in a folder."""
    torch.set_num_threads(threads)
    logging.disable_progress_bar()
    plan = Plan(steps=log_spaced(last, count), **options)
    read = read_texts(texts)
    done = resume(output, plan, read)
    tokenizer = train_tokenizer(read, plan.vocabulary)
    order = np.random.default_rng(0).permutation(len(read))
    n_held_out = max(1, int(len(read) * HELD_OUT_SHARE))
    held_out, rows = (
        tokenize([read[index] for index in part], tokenizer, plan.length)
        for part in (order[:n_held_out], order[n_held_out:])
    )
    if len(rows) < plan.batch or not len(held_out):
        n_tokens = rows.size + held_out.size
        raise click.ClickException(f"{n_tokens:,} tokens are too few for batches of {plan.batch} x {plan.length}")
    model = build(plan)
    if done is not None:
        model = type(model).from_pretrained(output / f"step{done}", trust_remote_code=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0)
    if done is not None:
        optimizer.load_state_dict(torch.load(output / f"step{done}" / "optimizer.pt"))
    n_parameters = sum(tensor.numel() for tensor in model.parameters())
    click.echo(
        f"{plan.kind}, seed {plan.seed}: {n_parameters:,} parameters, {rows.size:,} tokens of text, "
        f"{plan.steps[-1] * plan.batch * plan.length / rows.size:.1f} epochs, {len(plan.steps)} checkpoints"
        + ("" if done is None else f"; going on from step {done}")
    )
    log = output / "log.csv"
    if done is None:
        log.write_text("step,held_out_loss,train_loss,seconds\n")
    started = time.monotonic()
    losses: list[float] = []
    stream = batches(rows, plan, done or 0, key=1)
    for step in range(done or 0, plan.steps[-1] + 1):
        if step in plan.steps and step != done:
            loss = round(held_out_loss(model.eval(), held_out, plan), 4)
            seconds = round(time.monotonic() - started)
            with log.open("a", newline="") as file:
                csv.writer(file).writerow([step, loss, round(float(np.mean(losses)), 4) if losses else None, seconds])
            save(output / f"step{step}", model, tokenizer, optimizer)
            click.echo(f"step {step}: held-out loss {loss}, {seconds} s")
            losses = []
        if step == plan.steps[-1]:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan)
        # The seed and the step alone decide what the router draws, too.
        torch.manual_seed(plan.seed * 1_000_003 + step)
        model.train()
        loss = model(**next(stream), **({"output_router_logits": True} if plan.kind == "moe" else {})).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())


if __name__ == "__main__":
    pretrain()
