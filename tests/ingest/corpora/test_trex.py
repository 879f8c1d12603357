import json
import re

import pytest

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.trex import RELATIONS, read_trex


@pytest.fixture
def trex(tmp_path):
    """A folder with two known relations and one without a sentence."""
    folder = tmp_path / "trex" / "vocab"
    folder.mkdir(parents=True)
    facts = {
        "P36": [("France", "Paris"), ("Peru", "Lima"), ("Mali", "Bamako")],
        "P17": [("Cusco", "Peru"), ("Lyon", "France")],
        "P9999": [("a", "b")],
    }
    for name, pairs in facts.items():
        rows = [{"sub_label": subject, "obj_label": object_, "uuid": "0"} for subject, object_ in pairs]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "trex"


def test_relations_come_in_the_order_of_their_numbers_and_subjects_keep_together(trex):
    source = read_trex(trex)
    instances = list(source.instances)
    assert [each.text for each in instances[:5:2]] == [
        "The country in which Cusco is found is Peru.",
        "The country in which Lyon is found is France.",
        "The capital of France is the city of Paris.",
    ]
    assert [each.labels for each in instances[:2]] == [
        {"knowledge/P17-country": True},
        {"knowledge/P17-country": False},
    ]
    assert instances[1].text == "The country in which Cusco is found is France."
    assert {each.split_group for each in instances} == {"Cusco", "Lyon", "France", "Peru", "Mali"}
    assert (source.negatives, source.origin) == ("explicit", "trex: trex")
    assert +source.dropped == {"file of a relation without a sentence": 1}


def test_the_seed_decides_the_wrong_objects_and_the_cap(trex):
    def texts(seed):
        return tuple(each.text for each in read_trex(trex, cap=1, seed=seed).instances)

    assert len(texts(0)) == 4
    assert texts(0) == texts(0)
    assert len({texts(seed) for seed in range(8)}) > 1


def test_there_are_41_relations_of_one_sentence_each():
    assert len(RELATIONS) == 41
    for name, relation in RELATIONS.items():
        assert re.fullmatch(rf"{name}(-[a-z]+)+", relation.name)
        assert relation.template.count("[X]") == relation.template.count("[Y]") == 1
        assert relation.template.endswith(".")
    assert len({relation.template for relation in RELATIONS.values()}) == 41


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"sub_label": "Chad"}', r"P36.jsonl, line 4: no 'obj_label' with text in it; it holds: sub_label$"),
        ('{"sub_label": " ", "obj_label": "x"}', r"P36.jsonl, line 4: no 'sub_label' with text in it"),
        ("[1]", r"P36.jsonl, line 4: not a JSON object$"),
        ("{", r"P36.jsonl, line 4: not valid JSON: "),
    ],
)
def test_a_malformed_fact_is_refused_with_its_line(trex, line, message):
    path = trex / "vocab" / "P36.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(IngestError, match=message):
        list(read_trex(trex).instances)


def test_a_folder_without_facts_is_refused(tmp_path):
    (tmp_path / "Pxx.jsonl").touch()
    with pytest.raises(IngestError, match=r"no T-REx facts here: no file such as P36.jsonl"):
        read_trex(tmp_path)


@pytest.mark.reference
def test_all_41_relations_are_read_with_as_many_false_as_true_facts(shared, tmp_path, rows):
    report = build_corpus(read_trex(shared / "corpora" / "trex"), "trex", store=tmp_path / "store")
    assert report.n_functions == 41
    assert 57_000 < report.n_instances < 2 * 29_411
    assert set(report.dropped) == {"fact stated twice", "fact without a wrong object to set against it"}
