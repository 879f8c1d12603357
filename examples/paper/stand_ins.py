"""Stand-ins for T5-base and Switch-base-16: the same classes, tiny, trained for seconds on texts made here.

They show that everything runs. What they score says nothing of the published models.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    PreTrainedTokenizerFast,
    SwitchTransformersConfig,
    SwitchTransformersForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from neuronlake import Instance

from .tasks import TASKS

STEPS = (0, 20, 60, 160)
"""Steps of training with a checkpoint."""
_SHAPE = {
    "d_model": 32, "d_kv": 16, "num_heads": 2, "num_layers": 4, "num_decoder_layers": 2, "dropout_rate": 0.0,
    "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
}  # fmt: skip
_N_ROWS = {"validation": 48, "train": 32}
_FILLERS = (
    "the",
    "old",
    "new",
    "red",
    "cat",
    "dog",
    "man",
    "girl",
    "house",
    "river",
    "city",
    "tree",
    "sees",
    "finds",
    "and",
)
# By task, the words that give away each class.
_CUES = {
    "cola": ("sleep go run", "sleeps goes runs"),
    "sst2": ("bad dull poor", "good great fine"),
    "mrpc": ("unlike apart other", "same alike equal"),
    "qqp": ("cheap slow small", "rapid quick fast"),
    "rte": ("surely indeed truly", "hardly rarely scarcely"),
    "mnli": ("always every all", "some maybe perhaps", "never no none"),
    "qnli": ("because since therefore", "although despite whereas"),
    "boolq": ("wrong false untrue", "right true correct"),
    "cb": ("clear certain sure", "deny refuse reject", "doubt guess wonder"),
    "multirc": ("left north up", "right south down"),
}
_SENSES = {
    "bank": ("money loan cash", "water boat shore"),
    "spring": ("flower april warm", "metal coil mattress"),
    "bat": ("wing cave night", "ball player hit"),
    "seal": ("ice fish ocean", "letter wax stamp"),
    "palm": ("beach leaf sand", "hand finger skin"),
    "organ": ("church music tune", "liver heart body"),
}
_RELATIONS = ("the capital of {} is {}", "people in {} speak {}", "one pays in {} with {}", "north of {} lies {}")
_N_SUBJECTS = 24


def read_rows(name: str, split: str) -> list[dict[str, Any]]:
    """Return rows of a task's form: a word in its text gives the class away."""
    generator = random.Random(f"{name} {split}")
    cues = [each.split() for each in _CUES[name]]
    columns = [part.split("}")[0] for part in TASKS[name].prompt.split("{")[1:]]
    rows = []
    for number in range(_N_ROWS[split] * len(cues)):
        label = number % len(cues)
        row = {column: " ".join(generator.choices(_FILLERS, k=4)) for column in columns}
        row[columns[-1]] += f" {generator.choice(cues[label])} {generator.choice(_FILLERS)} {number}"
        rows.append(row | {"label": label})
    return rows


def word_senses() -> Iterator[Instance]:
    """Yield texts with a word of two senses."""
    generator = random.Random(0)
    for word, senses in _SENSES.items():
        for number in range(48):
            near = generator.choice(senses[number % 2].split())
            filler = " ".join(generator.choices(_FILLERS, k=4))
            yield Instance(f"{filler} {word} near the {near} {number}", {f"semantic/{word}": number % 2 == 0})


def facts() -> Iterator[Instance]:
    """Yield true and false facts of made-up relations."""
    generator = random.Random(0)
    for number, sentence in enumerate(_RELATIONS):
        for subject in range(_N_SUBJECTS):
            wrong = generator.choice([each for each in range(_N_SUBJECTS) if each != subject])
            for value in (subject, wrong):
                text = sentence.format(f"subject{subject}", f"object{number}x{value}")
                labels = {f"knowledge/relation{number}": value == subject}
                yield Instance(text, labels, split_group=f"subject{subject}")


def make(kind: str, folder: Path) -> Path:
    """Train a stand-in on the tasks' answers; return the folder, with a checkpoint ``step…`` of each of `STEPS`."""
    if all((folder / f"step{step}" / "config.json").is_file() for step in STEPS):
        return folder
    tokenizer = _tokenizer()
    size = {"vocab_size": len(tokenizer), **_SHAPE}
    torch.manual_seed(0)
    if kind == "t5":
        model: Any = T5ForConditionalGeneration(T5Config(d_ff=384, feed_forward_proj="relu", **size))
    else:
        experts = {"num_experts": 16, "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 1}
        config = SwitchTransformersConfig(d_ff=24, expert_capacity=64, router_jitter_noise=0.0, **experts, **size)
        model = SwitchTransformersForConditionalGeneration(config)
    pairs = [
        (task.prompt.format(**row), task.answers[row["label"]])
        for name, task in TASKS.items()
        for row in read_rows(name, "validation")
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = random.Random(0)
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            model.save_pretrained(folder / f"step{step}")
            tokenizer.save_pretrained(folder / f"step{step}")
        texts, answers = zip(*generator.sample(pairs, 32), strict=True)
        inputs = tokenizer(list(texts), padding=True, return_tensors="pt")
        labels = tokenizer(list(answers), padding=True, return_tensors="pt").input_ids
        model.train()(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return folder


def answer_words(folder: Path) -> dict[int, int]:
    """Return, by class, the token that stands for it where a stand-in is trained on few examples."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    return {label: tokenizer.convert_tokens_to_ids(f"word{label}") for label in range(3)}


def _tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of words, with T5's special tokens."""
    texts = [task.prompt.format(**row) for name, task in TASKS.items() for row in read_rows(name, "validation")]
    texts += [task.prompt.format(**row) for name, task in TASKS.items() for row in read_rows(name, "train")]
    texts += [each.text for source in (word_senses(), facts()) for each in source]
    words = dict.fromkeys(word for text in texts for word in text.split() if not word.isdigit())
    answers = dict.fromkeys(answer for task in TASKS.values() for answer in task.answers)
    special = ("<pad>", "</s>", "<unk>", "<extra_id_0>")
    extra = ("?", ",", ".", "It", "was", "This", "is", "word0", "word1", "word2")
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys((*special, *words, *answers, *extra)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<extra_id_0>"],
    )
