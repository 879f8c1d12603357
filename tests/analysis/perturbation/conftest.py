"""What the tests of perturbation studies share: corpora, measured models and studies of them."""

import functools
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch
import transformers

from neuronlake.analysis.partitions.job import partition_model
from neuronlake.analysis.partitions.settings import PartitionSettings
from neuronlake.analysis.perturbation.settings import PerturbationSettings
from neuronlake.analysis.perturbation.study import PerturbationReport, study_perturbation
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance, Source
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.schema.store import Store

from .tiny import KINDS

# The kinds that `headed` makes.
HEADED = ("bert", "roberta", "llama", "gpt2", "t5")
WORDS = ("cat", "dog", "bird", "river", "water", "sat", "ran", "flew", "on", "under", "near", "tree", "house", "red")
WATER = ("river", "water")


def sentences() -> Iterator[Instance]:
    """Yield 120 texts with targets, and a word of each: functions of texts and of spans, each half has its share."""
    draw = random.Random(5)
    for index in range(120):
        words = draw.choices(WORDS, k=draw.randrange(2, 7))
        text, target = f"{index} {' '.join(words)}", " ".join(reversed(words))
        labels = {"task/animal": any(word in WORDS[:3] for word in words), "task/water": any(w in WATER for w in words)}
        yield Instance(text, labels, target=target)
        start = text.index(" ") + 1
        yield Instance(text, {"word/animal": words[0] in WORDS[:3]}, start, start + len(words[0]), target=target)


@pytest.fixture(scope="module")
def model(built):
    """Return a function from a kind to a tiny random model, made once."""
    return functools.cache(lambda kind: built(*KINDS[kind]))


@pytest.fixture(scope="session")
def measured_on_sentences(headed, tiny_model, tmp_path_factory) -> Callable[[str], Path]:
    """Return a function from a model's kind to a store that holds a run of it on sentences; not to be written to.

    The model is `headed`, where there is a head for it, else `tiny_model`; its name is ``tiny-`` and the kind.
    """
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            store = tmp_path_factory.mktemp("sentences") / kind
            source = Source(list(sentences()), "sentences", None, "test: drawn", "explicit")
            build_corpus(source, "sentences", store=store)
            model = headed(kind) if kind in HEADED else tiny_model(kind)
            ingest_model(str(model), corpus="sentences", store=store, name=f"tiny-{kind}")
            made[kind] = store
        return made[kind]

    return make


@pytest.fixture
def studied(measured_on_sentences, tmp_path) -> Callable[[str], Store]:
    """Return a function from a model's kind to a copy of the test's own of what `measured_on_sentences` returns."""

    def copy(kind: str) -> Store:
        return Store(shutil.copytree(measured_on_sentences(kind), tmp_path / f"studied-{kind}"))

    return copy


@pytest.fixture
def perturbed(headed, tiny_model) -> Callable[..., PerturbationReport]:
    """Return a function that makes a quick study of a store that `studied` has returned."""

    def make(store: Store, of: str = "bert", *, engine: object = None, **options: object) -> PerturbationReport:
        folder = headed(of) if of in HEADED else tiny_model(of)
        quick = {"n_bootstrap": 50, "n_permutations": 49, "n_seeds": 2}
        settings = PerturbationSettings(**quick | options)
        return study_perturbation(str(folder), store=store.path, settings=settings, name=f"tiny-{of}", engine=engine)

    return make


PLANTED = {
    "semantic/colour": ("red", "blue", "green"),
    "semantic/water": ("river", "water", "bank"),
    "task/animal": ("cat", "dog", "bird", "fish"),
    "task/royal": ("king", "queen", "city"),
}
PLAIN = ("the", "sat", "ran", "flew", "on", "under", "over", "near", "tree", "house", "old", "new", "quick", "lazy")
N_PLANTED = 20
"""Neurons of each planted module: in layer 1 the first 20 carry the first function of `PLANTED`, and so on."""


def plant(
    folder: Path,
    tokenizer: transformers.PreTrainedTokenizerBase,
    words_of: Mapping[str, Sequence[str]],
    modules: Sequence[Sequence[int]],
) -> None:
    """Save a BERT of 2 layers of 400 neurons in which each function passes through its module in layer 1 alone.

    A function's words differ from all others in two input dimensions, which the last layer norm cuts off. Only its
    module sees them, and writes to two output dimensions. All other weights are small noise.
    """
    n_inputs = 2 * len(modules)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=4 * n_inputs, intermediate_size=400, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = transformers.BertModel(config, add_pooling_layer=False)
        words = torch.zeros(len(tokenizer), 4 * n_inputs)
        words[:, 2 * n_inputs :] = torch.randn(len(tokenizer), 2 * n_inputs)
    last = model.encoder.layer[1]
    with torch.no_grad():
        for parameter in (model.embeddings.position_embeddings, model.embeddings.token_type_embeddings):
            parameter.weight.zero_()
        for layer in model.encoder.layer:
            layer.intermediate.dense.weight[:, :n_inputs] = 0
        for place, (marked, module) in enumerate(zip(words_of.values(), modules, strict=True)):
            direction = torch.zeros(4 * n_inputs)
            direction[2 * place], direction[2 * place + 1] = 1, -1
            words[tokenizer.convert_tokens_to_ids(list(marked))] = direction
            last.intermediate.dense.weight[module] += direction
            last.intermediate.dense.bias[module] = -4
            last.output.dense.weight[:, module] += 0.05 * direction.roll(n_inputs)[:, None]
        model.embeddings.word_embeddings.weight.copy_(words)
        last.output.LayerNorm.weight[:n_inputs] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def planted_texts(words_of: Mapping[str, Sequence[str]]) -> Iterator[Instance]:
    """Yield 240 texts; each has a word of each function in four of ten cases."""
    draw = random.Random(2)
    for index in range(240):
        labels = {function: draw.random() < 0.4 for function in words_of}
        words = [draw.choice(words_of[function]) for function, has in labels.items() if has]
        words += draw.choices(PLAIN, k=8 - len(words))
        draw.shuffle(words)
        yield Instance(" ".join(words), labels, split_group=str(index))


@pytest.fixture(scope="session")
def measured_plant(tiny_model, tmp_path_factory) -> Callable[..., tuple[Path, Path]]:
    """Return a function that plants modules and measures them: the model's folder, and the store with the run."""

    def make(words_of: Mapping[str, Sequence[str]], modules: Sequence[Sequence[int]]) -> tuple[Path, Path]:
        folder, store = tmp_path_factory.mktemp("planted") / "planted", tmp_path_factory.mktemp("planted") / "store"
        plant(folder, transformers.AutoTokenizer.from_pretrained(tiny_model("bert")), words_of, modules)
        texts = list(planted_texts(words_of))
        build_corpus(Source(texts, "texts", None, "test: drawn", "rest"), "texts", store=store)
        ingest_model(str(folder), corpus="texts", store=store)
        return folder, store

    return make


@pytest.fixture(scope="session")
def planted(measured_plant) -> tuple[Path, Path]:
    """Return a model with planted modules, and a store with a run of it and kmeans experts; not to be written to."""
    modules = [range(N_PLANTED * place, N_PLANTED * (place + 1)) for place in range(len(PLANTED))]
    folder, store = measured_plant(PLANTED, modules)
    partition_model(str(folder), store=store, settings=PartitionSettings("kmeans", n_experts=20))
    return folder, store
