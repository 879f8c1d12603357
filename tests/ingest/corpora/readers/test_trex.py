import gzip
import json
import re

import pytest

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.readers.facts import RELATIONS, read_trex


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
    assert +source.reading.dropped == {"file of a relation without a sentence": 1}


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
        ('{"sub_label": 3, "obj_label": "x"}', r"P36.jsonl, line 4: 'sub_label' is neither a text nor a list .*: 3$"),
        ('{"sub_label": "x", "obj_label": [["y"]]}', r"P36.jsonl, line 4: 'obj_label' is neither .*: \[\['y'\]\]$"),
        ("[1]", r"P36.jsonl, line 4: not a JSON object$"),
        ("{", r"P36.jsonl, line 4: not valid JSON: "),
    ],
)
def test_a_malformed_fact_is_refused_with_its_line(trex, line, message):
    path = trex / "vocab" / "P36.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(IngestError, match=message):
        list(read_trex(trex).instances)


FRANCE = "The capital of France is the city of Paris."


@pytest.fixture
def capitals(tmp_path):
    """Return a function that writes lines to P36.jsonl, beside three good facts, and reads the true sentences."""

    def read(*lines):
        facts = [("Peru", "Lima"), ("Mali", "Bamako"), ("Chad", "N'Djamena")]
        good = [json.dumps({"sub_label": subject, "obj_label": object_}) for subject, object_ in facts]
        (tmp_path / "P36.jsonl").write_text("\n".join([*lines, *good]))
        source = read_trex(tmp_path)
        texts = [each.text for each in source.instances if each.labels["knowledge/P36-capital"]]
        return texts[:-3], source.reading.dropped + source.reading.defects

    return read


@pytest.mark.parametrize(
    "line",
    [
        '{"sub_label": null, "obj_label": "Oslo"}',
        '{"sub_label": "Chad", "obj_label": [" "]}',
        '{"sub_label": NaN, "obj_label": "Oslo"}',
        '{"obj_label": "Oslo"}',
    ],
)
def test_a_fact_without_subject_or_object_is_left_out_and_counted(capitals, line):
    assert capitals(line) == ([], {"fact without a subject or an object": 1})


def test_blank_lines_are_counted_and_do_no_harm(capitals):
    assert capitals("", '{"sub_label": "France", "obj_label": "Paris"}', " ") == ([FRANCE], {"blank line": 2})


def test_a_list_of_objects_is_a_fact_each(capitals):
    texts, _ = capitals('{"sub_label": "France", "obj_label": ["Paris", "Paris City"]}')
    assert texts == [FRANCE, "The capital of France is the city of Paris City."]


@pytest.mark.parametrize(
    "line",
    [
        '{"obj_label": "Paris", "evidences": [{"masked_sentence": "x"}, {"sub_surface": "France"}]}',
        '{"sub_label": "", "sub_surface": "France", "obj_label": "Paris"}',
    ],
)
def test_a_subject_without_a_label_is_named_as_in_its_sentence(capitals, line):
    assert capitals(line) == ([FRANCE], {"subject or object without a label, named as its sentence names it": 1})


def test_a_file_none_of_whose_lines_is_a_fact_is_refused(trex):
    (trex / "vocab" / "P36.jsonl").write_text('{"subject": "Chad", "object": "N\'Djamena"}\n')
    with pytest.raises(IngestError, match=r"P36.jsonl: no fact has both 'sub_label' and .* holds: subject, object$"):
        list(read_trex(trex).instances)


def test_the_files_of_one_relation_are_read_as_one(trex):
    more = trex / "more"
    more.mkdir()
    (trex / "vocab" / "P17.jsonl").rename(more / "P17.jsonl")
    compressed = gzip.compress(b'{"sub_label": "Nice", "obj_label": "Italy"}')
    (trex / "vocab" / "P17.jsonl.gz").write_bytes(compressed)
    source = read_trex(trex)
    texts = [each.text for each in source.instances if "knowledge/P17-country" in each.labels]
    assert texts[::2] == [
        "The country in which Cusco is found is Peru.",
        "The country in which Lyon is found is France.",
        "The country in which Nice is found is Italy.",
    ]


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
