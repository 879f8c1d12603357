"""Ids of what is measured and made stay what they first were: nothing in a store is made anew without cause.

Weights are made of sixteenths and texts of whole words, so that every digest is the same on any machine.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from neuronlake.cli import main

pytestmark = pytest.mark.slow

WORDS = ("cat", "dog", "river", "water", "sat", "ran", "on", "under", "tree", "house")
QUICK = ("--seeds", "2", "--bootstrap", "20", "--permutations", "19")


def save_model(folder: Path, shift: int) -> None:
    """Save a BERT of two layers whose weights are sixteenths, with a tokenizer of whole words."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *map(str, range(80)))
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=64, **size)
    model = transformers.AutoModel.from_config(config, trust_remote_code=False)
    for place, (_, weights) in enumerate(sorted(model.named_parameters())):
        values = (torch.arange(weights.numel()) * (7 + 2 * place) + shift) % 17
        weights.data = ((values - 8).float() / 16).reshape(weights.shape)
    model.save_pretrained(folder)
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def texts() -> list[dict[str, object]]:
    draw = random.Random(5)
    drawn = [(index, draw.choices(WORDS, k=4)) for index in range(80)]
    return [
        {
            "text": f"{index} {' '.join(words)}",
            "labels": ["task/animal"] * bool({"cat", "dog"} & {*words}) + ["task/water"] * ("water" in words),
        }
        for index, words in drawn
    ]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[list[object]]]:
    """Return a function that asks SQL of a store that holds one of everything."""
    folder = tmp_path_factory.mktemp("ids")
    exact, series = folder / "exact", folder / "series"
    save_model(exact, 0)
    for step in (0, 10, 100):
        save_model(series / f"step{step}", step)
    corpus, published = folder / "c.jsonl", folder / "published.csv"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in texts()))
    lines = [f"{layer},{neuron},{neuron / 64},{neuron % 4}\n" for layer in range(2) for neuron in range(64)]
    published.write_text("layer,neuron,score,expert\n" + "".join(lines))

    def do(*arguments: object) -> str:
        result = CliRunner().invoke(main, ["--store", str(folder / "store"), *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.stdout

    def ask(query: str) -> list[list[object]]:
        return [list(row.values()) for row in json.loads(do("sql", query, "--format", "json"))]

    do("corpus", "add", corpus, "--name", "c")
    do("ingest", exact, "--corpus", "c", "--coactivation")
    do("ingest", exact, "--corpus", "c", "--layers", "1", "--pooling", "mean", "--dtype", "bfloat16")
    do("ingest", series, "--revisions", "step*", "--corpus", "c")
    ((run,),) = ask("select run_id from runs where model = 'exact' and layers is null")
    do("partition", exact, "--name", "exact", "--experts", "4")
    do("partition", "exact", "--method", "random", "--experts", "4")
    do("partition", "exact", "--method", "coactivation", "--experts", "4", "--run", run)
    ((partition,),) = ask("select partition_id from partitions where method = 'random'")
    do("align", partition, "--run", run, "--permutations", "19")
    imported = ("--stack", "encoder", "--family", "task", "--function", "mean", "--score", "score")
    do("share", "import", published, "--model", "published", *imported, "--partition", "expert")
    with pytest.MonkeyPatch.context() as patch:
        # A fitted probe is the same to the last bit on one kind of machine alone.
        patch.setattr("neuronlake.analysis.readouts.probe.arrays_sha256", lambda *_: "0" * 64)
        do("perturb", exact, "--run", run, "--top", "--dose", "0.1", *QUICK)
    do("emergence", series, "--experts", "4", "--random", "2", "--starts", "1")
    return ask


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("select corpus_sha256 from corpora", ["9477242c79e14f738318f0711609340fd800cdb040d8872f43276c95265876ad"]),
        ("select run_id from runs where model = 'exact' and layers is null", ["1a63c9d0e1d3ca17"]),
        ("select run_id from runs where model = 'exact' and layers = '1'", ["57cfbc0e5e69e5bd"]),
        ("select run_id from runs where model = 'published'", ["5e6b72d983f11a22"]),
        (
            "select run_id from runs where model = 'series' order by step",
            ["de71265776ec0315", "1ad800d33430a0a2", "23f86675f081539e"],
        ),
        (
            "select partition_id from partitions where model = 'exact' order by method",
            ["c45a03d5cedab17f", "9f1d38705e478e5c", "6942b9ad1062e8c5"],
        ),
        ("select partition_id from partitions where method = 'imported'", ["9e1b710990d71b74"]),
        (
            "select partition_id from partitions where method = 'matched' order by seed",
            ["e3b2e25f13dfb273", "83331d19dcb6e18a"],
        ),
        (
            "select partition_id from partitions where model = 'series' and method = 'kmeans' and revision = 'step10' "
            "order by all",
            ["17e30c71b470345b", "1e5bb8108354ea22", "7d3d81e69c120973"],
        ),
        ("select distinct alignment_id from alignments", ["2ceff0b0952723a6"]),
        ("select perturbation_id from perturbation_studies", ["bf3947a8a7c4604b"]),
        ("select min(cell_id) from perturbations", ["0839cf9f434bb020"]),
        ("select max(cell_id) from perturbations", ["c2b854f7cbf4e257"]),
        ("select emergence_id from emergence_studies", ["8b6a5d34fcd1ba06"]),
    ],
)
def test_what_is_the_same_has_the_same_id_for_ever(ask, query, ids):
    assert [row[0] for row in ask(query)] == ids


def test_so_have_the_jobs_beside_a_run(ask):
    from neuronlake.ingest.jobs.settings import Coactivation

    assert Coactivation(32, None).job_name("1a63c9d0e1d3ca17") == "coactivation-db36d35f78945e6c"


def test_so_have_the_requests_that_a_store_knows_again(monkeypatch):
    from neuronlake.ingest.jobs import settings
    from neuronlake.ingest.models.checkpoint import Checkpoint

    monkeypatch.setattr(settings, "transformers_version", lambda: "5.23.0")
    asked = settings.Request(Checkpoint("tiny/model", "step10"), SimpleNamespace(name="c", sha256="0" * 64))
    assert asked.identifier("f" * 16) == "532a50c76929c50e"
