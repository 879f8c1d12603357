import gzip

import pytest

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.readers.conllu import read_conllu


def word(id_, form, upos="X", relation="dep", misc="_", lemma="_"):
    return "\t".join([id_, form, lemma, upos, "_", "_", "0", relation, "_", misc])


@pytest.fixture
def treebank(tmp_path):
    def write(*lines):
        path = tmp_path / "mine.conllu"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def spans(source):
    return [(each.text[each.start : each.end], *each.labels) for each in source.instances]


def test_each_word_has_its_part_of_speech_and_relation_at_its_place_in_the_text(treebank):
    path = treebank(
        "# sent_id = s-1",
        "# text = Go  on, Sam.",
        word("1", "Go", "VERB", "root", lemma="go"),
        word("2", "on", "ADP", "compound:prt", "SpaceAfter=No"),
        word("3", ",", "PUNCT", "punct"),
        word("4", "Sam", "PROPN", "vocative", "SpaceAfter=No"),
        word("5", ".", "_", "_"),
        "",
    )
    source = read_conllu(path, min_count=1)
    text = "Go  on, Sam."
    assert list(source.instances) == [
        Instance(
            text, {"grammar/upos.VERB": True, "grammar/deprel.root": True}, 0, 2, None, "s-1:1", None, "go", "VERB"
        ),
        Instance(text, {"grammar/upos.ADP": True, "grammar/deprel.compound": True}, 4, 6, None, "s-1:2", stratum="ADP"),
        Instance(
            text, {"grammar/upos.PUNCT": True, "grammar/deprel.punct": True}, 6, 7, None, "s-1:3", stratum="PUNCT"
        ),
        Instance(
            text, {"grammar/upos.PROPN": True, "grammar/deprel.vocative": True}, 8, 11, None, "s-1:4", stratum="PROPN"
        ),
        Instance(text, {}, 11, 12, source_id="s-1:5"),
    ]
    assert (source.negatives, source.licence, source.origin) == ("rest", None, "conllu: mine.conllu")


def test_words_that_spell_a_contraction_have_their_part_of_it(treebank):
    path = treebank(
        "# text = I don't.",
        word("1", "I"),
        word("2-3", "don't", misc="SpaceAfter=No"),
        word("2", "do", "AUX"),
        word("3", "n't", "PART"),
        word("4", ".", "PUNCT"),
    )
    found = spans(read_conllu(path, min_count=1))
    assert [each[:2] for each in found] == [
        ("I", "grammar/upos.X"),
        ("do", "grammar/upos.AUX"),
        ("n't", "grammar/upos.PART"),
        (".", "grammar/upos.PUNCT"),
    ]


def test_words_that_do_not_spell_their_contraction_are_left_out_and_counted(treebank):
    path = treebank("# text = du vin", word("1-2", "du"), word("1", "de"), word("2", "le"), word("3", "vin"))
    source = read_conllu(path, min_count=1)
    assert [form for form, *_ in spans(source)] == ["vin"]
    assert +source.reading.dropped == {"word of a contraction without characters of its own": 2}


def test_empty_nodes_are_left_out_and_counted(treebank):
    path = treebank("# text = a b", word("1", "a"), word("1.1", "ghost"), word("2", "b"))
    source = read_conllu(path, min_count=1)
    assert [form for form, *_ in spans(source)] == ["a", "b"]
    assert +source.reading.dropped == {"empty node, which stands for no text": 1}


def test_without_a_text_the_words_make_it(treebank):
    path = treebank(word("1", "Hi", misc="SpaceAfter=No"), word("2", "!"), "", word("1", "Bye"))
    assert [each.text for each in read_conllu(path, min_count=1).instances] == ["Hi!", "Hi!", "Bye"]


def test_a_sentence_whose_text_lacks_its_words_is_left_out_and_counted(treebank):
    path = treebank("# text = a b", word("1", "a"), word("2", "c"), "", "# text = d", word("1", "d"))
    source = read_conllu(path, min_count=1)
    assert [form for form, *_ in spans(source)] == ["d"]
    assert source.reading.defects == {"word of a sentence whose text does not hold its words": 2}


def test_rare_functions_are_left_out_but_their_words_stay(treebank):
    path = treebank("# text = a b c", word("1", "a", "DET"), word("2", "b", "DET"), word("3", "c", "NOUN", "_"))
    source = read_conllu(path, min_count=2)
    assert spans(source) == [
        ("a", "grammar/upos.DET", "grammar/deprel.dep"),
        ("b", "grammar/upos.DET", "grammar/deprel.dep"),
        ("c",),
    ]
    assert +source.reading.dropped == {"label of a function with too few instances": 1}


def test_a_cap_keeps_so_many_words_of_each_part_of_speech(treebank):
    words = [word(str(index), f"w{index}", "NOUN" if index % 2 else "VERB") for index in range(1, 7)]
    source = read_conllu(treebank(*words), min_count=1, cap=2)
    parts = [label for _, label, _ in spans(source)]
    assert sorted(parts) == ["grammar/upos.NOUN"] * 2 + ["grammar/upos.VERB"] * 2
    assert +source.reading.dropped == {"word beyond the cap of its part of speech": 2}


def test_a_folder_is_read_in_the_order_of_its_files(tmp_path):
    (tmp_path / "b.conllu").write_text(word("1", "second") + "\n")
    (tmp_path / "a.conllu.gz").write_bytes(gzip.compress(word("1", "first").encode()))
    (tmp_path / "notes.txt").write_text("no treebank")
    (tmp_path / "._a.conllu").write_bytes(b"\0\5\x16\7")
    assert [each.text for each in read_conllu(tmp_path, min_count=1).instances] == ["first", "second"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 a", r"mine.conllu, line 2: 1 columns, CoNLL-U has 10, separated by tabs$"),
        (word("one", "a"), r"mine.conllu, line 2: the id of a word is a number, 1-2 or 1.1, not 'one'$"),
        (word("1-b", "a"), r"mine.conllu, line 2: the id of a word is"),
        (word("0", "a"), r"mine.conllu, line 2: the id of a word is"),
        (word("9" * 5000, "a"), r"mine.conllu, line 2: the id of a word is"),
        (word("a.b", "a"), r"mine.conllu, line 2: the id of a word is"),
        (word("²", "a"), r"mine.conllu, line 2: the id of a word is"),
    ],
)
def test_a_malformed_line_is_refused_with_its_number(treebank, line, message):
    with pytest.raises(IngestError, match=message):
        list(read_conllu(treebank("# text = a", line), min_count=1).instances)


@pytest.mark.parametrize(
    ("mark", "blank", "end"),
    [("\ufeff", "", "\n"), ("\ufeff", " ", "\r\n"), ("", "\t", "\r"), ("\ufeff", " \t", "\n")],
)
def test_a_byte_order_mark_blank_lines_of_spaces_and_any_line_ends_are_read(tmp_path, mark, blank, end):
    lines = [word("1", "Hi", misc="SpaceAfter=No"), word("2", "!"), blank, "#text=Bye", word("1", "Bye"), blank]
    (tmp_path / "mine.conllu").write_bytes((mark + end.join(lines)).encode())
    assert [each.text for each in read_conllu(tmp_path, min_count=1).instances] == ["Hi!", "Hi!", "Bye"]


def test_a_part_of_speech_left_empty_is_none(treebank):
    source = read_conllu(treebank(word("1", "a", "", "")), min_count=1)
    assert spans(source) == [("a",)]


@pytest.mark.parametrize("name", [".", "absent.conllu"])
def test_a_path_without_a_treebank_is_refused(tmp_path, name):
    with pytest.raises(IngestError, match=r"neither a CoNLL-U file nor a folder of \*.conllu files"):
        read_conllu(tmp_path / name)


@pytest.mark.reference
def test_english_ewt_is_located_completely(shared, tmp_path):
    source = read_conllu(shared / "corpora" / "ud_english_ewt")
    report = build_corpus(source, "ewt", store=tmp_path / "store")
    assert report.n_instances == 24_903
    assert (report.n_functions, report.n_texts) == (49, 1_913)
    assert "word of a sentence whose text does not hold its words" not in report.dropped
