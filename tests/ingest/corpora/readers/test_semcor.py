import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.readers.semcor import LEXNAMES, join, read_semcor


def sentence(number, *tokens):
    return "\n".join([f"<s snum={number}>", *tokens, "</s>"])


def tagged(form, lemma, sense, number=1, more=""):
    return f"<wf cmd=done pos=NN {more} lemma={lemma} wnsn={number} lexsn={sense}>{form}</wf>"


@pytest.fixture
def semcor(tmp_path):
    def write(*sentences, encoding="latin-1"):
        folder = tmp_path / "semcor3.0" / "brown1" / "tagfiles"
        folder.mkdir(parents=True)
        head = "<contextfile concordance=brown>\n<context filename=br-a01 paras=yes>\n<p pnum=1>\n"
        content = head + "\n".join(sentences) + "\n</p>\n</context>\n</contextfile>\n"
        (folder / "br-a01").write_text(content, encoding)
        return tmp_path / "semcor3.0"

    return write


def test_each_tagged_word_has_its_supersense_and_span(semcor):
    path = semcor(
        sentence(
            7,
            "<punc>``</punc>",
            "<wf cmd=ignore pos=DT>The</wf>",
            tagged("Caf\xe9_owner", "caf\xe9_owner", "1:18:00::"),
            "<wf cmd=done pos=VB lemma=leave wnsn=1 lexsn=2:38:01::>left</wf>",
            "<punc>''</punc>",
            "<wf cmd=done pos=JJ lemma=recent wnsn=2 lexsn=5:00:00:past:00>late</wf>",
            "<punc>.</punc>",
        )
    )
    source = read_semcor(path)
    text = '"The Caf\xe9 owner left" late.'
    assert list(source.instances) == [
        Instance(text, {"semantic/noun.person": True}, 5, 15, None, "br-a01:7:2", None, "caf\xe9_owner", "noun"),
        Instance(text, {"semantic/verb.motion": True}, 16, 20, None, "br-a01:7:3", None, "leave", "verb"),
        Instance(text, {"semantic/adj.all": True}, 22, 26, None, "br-a01:7:4", None, "recent", "adjective"),
    ]
    assert (source.negatives, source.origin, source.reading.dropped) == (
        "rest",
        "semcor: semcor3.0",
        {"word without a sense": 1},
    )


def test_a_name_has_no_lemma_and_is_a_proper_noun(semcor):
    source = read_semcor(
        semcor(sentence(1, tagged("Fulton", "location", "1:15:00::", more="rdf=location pn=location")))
    )
    assert [(each.lemma, each.stratum) for each in source.instances] == [(None, "proper noun")]


def test_there_are_45_lexnames_in_wordnets_order():
    assert len(set(LEXNAMES)) == 45
    assert (LEXNAMES[3], LEXNAMES[18], LEXNAMES[29], LEXNAMES[44]) == (
        "noun.Tops",
        "noun.person",
        "verb.body",
        "adj.ppl",
    )


def test_of_several_senses_the_first_is_taken_and_counted(semcor):
    source = read_semcor(semcor(sentence(1, tagged("plays", "play", "1:04:05::;1:10:04::", "3;4"))))
    assert [list(each.labels) for each in source.instances] == [["semantic/noun.act"]]
    assert source.reading.dropped == {"word tagged with several senses, of which the first was taken": 1}


def uses(lemma, *senses, more=""):
    return [tagged(lemma, lemma, f"1:17:0{number}::", number, more) for number in senses]


def test_a_word_in_two_senses_becomes_a_function_of_one_against_the_other(semcor):
    source = read_semcor(semcor(sentence(1, *uses("bank", 2, 1, 1, 2))), labels="word-senses", min_per_sense=2)
    assert [each.labels for each in source.instances] == [
        {"semantic/bank.n:1-2": is_first} for is_first in (False, True, True, False)
    ]
    assert source.negatives == "explicit"
    assert source.descriptions == {
        "semantic/bank.n:1-2": "bank, noun: sense 1 (bank%1:17:01::) against sense 2 (bank%1:17:02::)"
    }


def test_of_more_senses_the_two_most_frequent_are_taken(semcor):
    path = semcor(sentence(1, *uses("bank", 1, 1, 2, 2, 2, 3, 3, 3, 3), *uses("pit", 1, 1, 2, 2, 3, 3)))
    source = read_semcor(path, labels="word-senses", min_per_sense=2)
    assert {label for each in source.instances for label in each.labels} == {
        "semantic/bank.n:2-3",
        "semantic/pit.n:1-2",
    }
    assert source.reading.dropped == {"further sense of a word": 4}


def test_rare_senses_names_and_senses_without_a_number_are_left_out(semcor):
    path = semcor(
        sentence(
            1, *uses("bank", 1, 1, 2, 2), *uses("pit", 1, 1, 2), *uses("bank", 0), *uses("bank", 2, more="pn=group")
        )
    )
    source = read_semcor(path, labels="word-senses", min_per_sense=2)
    assert len(list(source.instances)) == 4
    assert source.reading.dropped == {
        "name tagged with its class": 1,
        "sense that WordNet 3.0 no longer has": 1,
        "word without two senses of enough instances": 3,
    }


def test_adjectives_and_their_satellites_are_one_part_of_speech(semcor):
    path = semcor(sentence(1, tagged("odd", "odd", "3:00:01::", 1), tagged("odd", "odd", "5:00:00:strange:00", 2)))
    source = read_semcor(path, labels="word-senses", min_per_sense=1)
    assert [list(each.labels) for each in source.instances] == [["semantic/odd.a:1-2"]] * 2


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("plain words", r"br-a01, line 5: not a line of a SemCor tagfile: 'plain words'$"),
        ("<wf cmd=done>cut", r"br-a01, line 5: <wf> without content or end: '<wf cmd=done>cut'$"),
        (tagged("x", "x", "1:45:00::"), r"br-a01, line 5: not a sense: lemma=x wnsn=1 lexsn=1:45:00::$"),
        (tagged("x", "x", "nonsense"), r"br-a01, line 5: not a sense: lemma=x wnsn=1 lexsn=nonsense$"),
    ],
)
def test_a_malformed_line_is_refused_with_its_number(semcor, token, message):
    with pytest.raises(IngestError, match=message):
        list(read_semcor(semcor(sentence(1, token))).instances)


def test_a_folder_without_tagfiles_is_refused(tmp_path):
    with pytest.raises(IngestError, match=r"no SemCor here: no folder named tagfiles"):
        read_semcor(tmp_path)


def test_hidden_files_are_no_tagfiles(semcor):
    path = semcor(sentence(1, tagged("play", "play", "1:04:05::")))
    (path / "brown1" / "tagfiles" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    source = read_semcor(path)
    assert len(list(source.instances)) == 1
    assert source.reading.dropped == {"hidden file, such as .DS_Store": 1}


@pytest.mark.parametrize("labels", ["supersenses", "word-senses"])
def test_a_cap_keeps_so_many_words_of_each_sense_by_seed(semcor, labels):
    path = semcor(sentence(1, *uses("bank", 1, 1, 1, 1, 2, 2, 2, 2)))

    def kept(seed):
        source = read_semcor(path, labels=labels, min_per_sense=2, cap=1, seed=seed)
        found = [(*each.labels.values(), each.start) for each in source.instances]
        assert source.reading.dropped == {"word beyond the cap of its sense": 8 - len(found)}
        return tuple(found)

    assert [is_positive for is_positive, _ in kept(0)] == ([True] if labels == "supersenses" else [True, False])
    assert kept(0) == kept(0)
    assert len({kept(seed) for seed in range(8)}) > 1


def test_a_minimum_below_one_is_refused(semcor):
    with pytest.raises(IngestError, match=r"min_per_sense must be at least 1, not 0"):
        read_semcor(semcor(sentence(1)), labels="word-senses", min_per_sense=0)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["He", "said", ",", "``", "No", "!", "''"], 'He said, "No!"'),
        (["It", "did", "n't", "."], "It didn't."),
        (["Georgia", "'s", "jury", "(", "of", "six", ")", ";", "I", "'ll", "see"], "Georgia's jury (of six); I'll see"),
        (["`", "K", "'", ":", "$", "5", "or", "5", "%"], "'K': $5 or 5%"),
        (["Fulton_County_Grand_Jury", "met"], "Fulton County Grand Jury met"),
        (["Bob_(_Bevo_)", "ran"], "Bob (Bevo) ran"),
        (["governor_'s_race"], "governor's race"),
        (["no", "-", "and"], "no - and"),
        (["_"], "_"),
        ([], ""),
    ],
)
def test_tokens_read_as_text(tokens, text):
    assert join(tokens)[0] == text


def test_each_token_has_its_span():
    text, spans = join(["``", "Mr._Day", "did", "n't", "''"])
    assert [text[start:end] for start, end in spans] == ['"', "Mr. Day", "did", "n't", '"']


@given(st.lists(st.sampled_from(["a", "b_c", "n't", "''", "``", "(", ".", "_x", "'s"]), min_size=1))
def test_spans_are_in_order_and_leave_only_single_spaces_out(tokens):
    text, spans = join(tokens)
    ends = [0, *(end for _, end in spans)]
    assert all(text[end:start] in ("", " ") and start < stop for end, (start, stop) in zip(ends, spans, strict=False))
    assert ends[-1] == len(text)


@pytest.mark.slow
@pytest.mark.reference
def test_semcor_has_its_known_size(shared, tmp_path):
    source = read_semcor(shared / "corpora" / "semcor3.0")
    report = build_corpus(source, "semcor", store=tmp_path / "store")
    duplicates = sum(count for reason, count in report.dropped.items() if reason.startswith("duplicate"))
    assert (report.n_instances + duplicates, report.n_functions) == (192_639, 45)
    assert report.n_texts == 19_881
    assert report.dropped["word tagged with several senses, of which the first was taken"] == 666


@pytest.mark.slow
@pytest.mark.reference
def test_semcor_has_words_in_two_senses(shared, tmp_path):
    source = read_semcor(shared / "corpora" / "semcor3.0", labels="word-senses", min_per_sense=50)
    report = build_corpus(source, "words", store=tmp_path / "store")
    assert report.n_functions == 47
    assert "semantic/be.v:1-2" in source.descriptions
