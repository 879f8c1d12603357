import json
import logging
import sys

import pytest

from neuronlake.errors import IngestError, UnknownNameError
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.readers.classes import read_huggingface

NAMES = ["entailment", "neutral", "contradiction"]


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return datasets


@pytest.fixture
def folder(tmp_path):
    """A folder of JSON lines: nine rows, three classes by name."""
    path = tmp_path / "nli"
    path.mkdir()
    rows = [{"premise": f"p{row}", "hypothesis": f"h{row}", "label": NAMES[row % 3]} for row in range(9)]
    (path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def parquet(tmp_path, offline):
    """A Parquet file with a ClassLabel column, one hidden label and one NULL."""
    path = tmp_path / "named.parquet"
    features = offline.Features(
        {"text": offline.Value("string"), "label": offline.ClassLabel(names=NAMES), "score": offline.Value("float32")}
    )
    rows = [{"text": text, "label": label, "score": 0.5} for text, label in [("a", 2), ("b", -1), (None, 0), ("d", 0)]]
    offline.Dataset.from_list(rows, features=features).to_parquet(path)
    return path


def test_each_class_becomes_a_function_and_the_template_the_text(folder):
    source = read_huggingface(folder, template="nli {premise} -> {hypothesis}", task="nli")
    instances = list(source.instances)
    assert instances[:2] == [
        Instance("nli p0 -> h0", {"task/nli.entailment": True}, source_id="0"),
        Instance("nli p1 -> h1", {"task/nli.neutral": True}, source_id="1"),
    ]
    assert (len(instances), source.negatives, source.origin) == (9, "rest", "huggingface: nli, train")


def test_class_names_come_from_the_dataset_and_unlabelled_rows_are_counted(parquet):
    source = read_huggingface(parquet, family="topic")
    assert list(source.instances) == [
        Instance("a", {"topic/contradiction-entailment": True}, source_id="0"),
        Instance("d", {"topic/contradiction-entailment": False}, source_id="3"),
    ]
    assert +source.reading.dropped == {"row without a class": 1, "row with NULL in a column of the template": 1}


def test_a_pair_is_explicit_and_rows_outside_are_counted(folder):
    source = read_huggingface(folder, template="{premise}", pairs=["entailment-contradiction"], task="mnli")
    label = "task/mnli.entailment-contradiction"
    assert [each.labels for each in source.instances] == [{label: True}, {label: False}] * 3
    assert source.negatives == "explicit"
    assert +source.reading.dropped == {"row of a class in no chosen pair": 3}


def test_a_row_has_a_label_of_every_pair_its_class_is_in(folder):
    source = read_huggingface(folder, template="{premise}", pairs=["entailment-neutral", "neutral-contradiction"])
    assert [each.labels for each in source.instances][:3] == [
        {"task/entailment-neutral": True},
        {"task/entailment-neutral": False, "task/neutral-contradiction": True},
        {"task/neutral-contradiction": False},
    ]


def test_whole_numbers_beside_a_gap_are_classes(tmp_path):
    path = tmp_path / "gap.csv"
    path.write_text("text,label\na,1\nb,0\nc,\n")
    source = read_huggingface(path)
    assert [each.labels for each in source.instances] == [{"task/0-1": False}, {"task/0-1": True}]
    assert +source.reading.dropped == {"row without a class": 1}


def test_classes_may_have_hyphens(tmp_path):
    path = tmp_path / "hyphens.csv"
    path.write_text("text,label\na,not-a-cat\nb,cat\n")
    source = read_huggingface(path, pairs=["not-a-cat-cat"])
    assert [each.labels for each in source.instances] == [{"task/not-a-cat-cat": True}, {"task/not-a-cat-cat": False}]


def test_a_cap_keeps_so_many_of_each_class_by_seed(folder):
    def kept(seed):
        source = read_huggingface(folder, template="{premise}", cap=1, seed=seed)
        texts = tuple(each.text for each in source.instances)
        assert +source.reading.dropped == {"row beyond the cap of its class": 6}
        return texts

    assert len(kept(0)) == 3
    assert kept(0) == kept(0)
    assert len({kept(seed) for seed in range(5)}) > 1


def test_a_dataset_saved_to_disk_keeps_its_class_names(tmp_path, parquet, offline):
    saved = offline.load_dataset("parquet", data_files=str(parquet), split="train")
    offline.DatasetDict({"validation": saved}).save_to_disk(tmp_path / "saved")
    source = read_huggingface(tmp_path / "saved", split="validation")
    assert [each.labels for each in source.instances] == [
        {"task/contradiction-entailment": True},
        {"task/contradiction-entailment": False},
    ]


def test_integers_are_classes_by_value(tmp_path):
    path = tmp_path / "stars.csv"
    path.write_text("text,stars\ngood,5\nbad,1\nfair,3\n")
    source = read_huggingface(path, label_column="stars", task="stars")
    assert [list(each.labels) for each in source.instances] == [["task/stars.5"], ["task/stars.1"], ["task/stars.3"]]


def test_an_unknown_label_column_is_refused_with_the_closest(folder):
    with pytest.raises(UnknownNameError, match=r"no column 'labels' in nli, train; did you mean 'label'\?"):
        read_huggingface(folder, template="{premise}", label_column="labels")


def test_a_template_naming_an_absent_column_is_refused(folder):
    with pytest.raises(
        UnknownNameError, match=r"no column 'text' in nli, train; available: hypothesis, label, premise"
    ):
        read_huggingface(folder)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("premise", "names no column in braces"),
        ("{premise", "expected '}' before end of string"),
        ("{} {premise}", "braces hold the name of a column and nothing else"),
        ("{premise!r}", "braces hold the name of a column and nothing else"),
    ],
)
def test_a_malformed_template_is_refused(folder, template, message):
    with pytest.raises(IngestError, match=message):
        read_huggingface(folder, template=template)


def test_an_unknown_class_in_a_pair_is_refused_with_the_closest(folder):
    with pytest.raises(UnknownNameError, match=r"no class 'entail' in nli, train, .*; did you mean 'entailment'\?"):
        read_huggingface(folder, template="{premise}", pairs=["entail-neutral"])


@pytest.mark.parametrize("pair", ["entailment", "entailment-entailment"])
def test_what_is_not_a_pair_is_refused(folder, pair):
    with pytest.raises(IngestError, match=r"is not a pair of classes.*contradiction, entailment, neutral"):
        read_huggingface(folder, template="{premise}", pairs=[pair])


def test_a_column_of_numbers_is_not_classes(parquet):
    with pytest.raises(IngestError, match=r"'score' in named.parquet, train holds float values, not classes: 0.5"):
        read_huggingface(parquet, label_column="score")


def test_an_unknown_split_is_refused_with_those_there_are(folder):
    with pytest.raises(IngestError, match=r"cannot load .*nli: Unknown split \"dev\". Should be one of \['train'\]"):
        read_huggingface(folder, split="dev")


def test_a_file_of_another_suffix_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("a")
    with pytest.raises(IngestError, match=r"mine.txt: the suffix tells the format: .json, .jsonl, .csv"):
        read_huggingface(tmp_path / "mine.txt")


@pytest.mark.parametrize("name", ["absent", "damaged.parquet", "damaged.jsonl"])
def test_what_cannot_be_loaded_is_refused_in_one_line(tmp_path, name, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("datasets"), "propagate", True)
    if name.startswith("damaged"):
        (tmp_path / name).write_text('{"text": "a", "label": 1}\n{"text"\n')
    with pytest.raises(IngestError, match=r"^cannot load .+: [^\n]+$"):
        read_huggingface(tmp_path / name)
    assert not caplog.records


def test_a_missing_package_is_named(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(IngestError, match=r"'datasets', which is not installed: pip install 'neuronlake\[hub\]'"):
        read_huggingface(folder)


def test_a_dataset_builds_into_a_store(built, folder):
    report = built(read_huggingface(folder, template="{premise}"))
    assert (report.n_texts, report.n_functions) == (9, 3)
