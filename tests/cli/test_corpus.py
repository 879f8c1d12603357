"""`neuronlake corpus`: corpora in, and what is said about files that are none."""

import json
import shutil
from pathlib import Path

import pytest


def test_a_corpus_is_added_listed_and_shown(succeeds, neuronlake, corpus_file):
    added = succeeds("corpus", "add", corpus_file, "--name", "words", "--description", "mine", "--licence", "CC0")
    assert added.splitlines() == [
        "corpus words: 9 instances of 9 texts, 2 functions",
        "        1  duplicate",
    ]
    (row,) = json.loads(succeeds("corpus", "list", "--format", "json"))
    assert row == {
        "corpus": "words", "description": "mine", "n_texts": 9, "n_instances": 9, "licence": "CC0",
        "source": "table: words.jsonl",
    }  # fmt: skip
    shown = neuronlake("corpus", "show", "words", "--format", "csv")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        "family,function,n_positive,n_negative,prevalence,negatives,description",
        "knowledge,place,3,6,0.3333333333333333,rest,",
        "task,animal,4,5,0.4444444444444444,rest,",
    ]
    assert "duplicate" in shown.stderr
    assert "CC0" in shown.stderr


def test_adding_a_corpus_again_does_nothing_and_says_so(succeeds, store, corpus_file, contents):
    before = contents(store)
    said = succeeds("--store", store, "corpus", "add", corpus_file, "--name", "words")
    assert "already in the store, nothing done" in said
    assert contents(store) == before


def test_a_name_that_holds_another_corpus_is_refused(fails, store, tmp_path, write_jsonl, contents):
    before = contents(store)
    rows = [{"text": "one", "labels": ["a/b"]}, {"text": "two", "labels": []}]
    line = fails("--store", store, "corpus", "add", write_jsonl(tmp_path / "new.jsonl", rows), "--name", "words")
    assert "'words'" in line
    assert "another name" in line
    assert contents(store) == before


def test_the_labels_of_a_corpus_are_shuffled(succeeds, store):
    said = succeeds("--store", store, "corpus", "shuffle", "words", "--name", "null", "--seed", "5")
    assert said == "corpus null: 9 instances of 9 texts, 2 functions\n"
    listed = json.loads(succeeds("--store", store, "corpus", "list", "--format", "json"))
    (row,) = (row for row in listed if row["corpus"] == "null")
    assert row["description"] == "labels of words permuted, seed 5"
    assert row["source"] == "shuffled: words (table: words.jsonl)"
    functions = [succeeds("--store", store, "corpus", "show", name, "--format", "csv") for name in ("words", "null")]
    assert functions[0] == functions[1]
    placed = "select instance_id, family, function from labels where corpus = '{}' order by all"
    before, after = (succeeds("--store", store, "sql", placed.format(name)) for name in ("words", "null"))
    assert before != after


def test_labels_are_shuffled_by_seed_0_unless_another_is_given(succeeds, store):
    for arguments in ((), ("--seed", "0")):
        said = succeeds("--store", store, "corpus", "shuffle", "words", "--name", "null", *arguments)
    assert "already in the store, nothing done" in said


def test_labels_are_shuffled_by_word_within_strata_and_both_are_shown(succeeds, neuronlake, tmp_path, write_jsonl):
    words = [("cats", "cat", "noun"), ("dogs", "dog", "noun"), ("ran", "run", "verb"), ("sat", "sit", "verb")]
    rows = [
        {"text": f"{word} {index}", "labels": [f"c/{lemma}"], "start": 0, "end": 3, "lemma": lemma, "stratum": stratum}
        for index in range(2)
        for word, lemma, stratum in words
    ]
    succeeds("corpus", "add", write_jsonl(tmp_path / "strata.jsonl", rows), "--name", "strata")
    shown = neuronlake("corpus", "show", "strata").stderr.splitlines()
    assert shown[-2:] == ["stratum noun: 4 instances, 2 lemmas", "stratum verb: 4 instances, 2 lemmas"]
    said = succeeds("corpus", "shuffle", "strata", "--name", "task", "--by", "word", "--within", "stratum")
    assert said == "corpus task: 8 instances of 8 texts, 4 functions\n"
    moved = "select lemma, function from instances natural join labels where corpus = 'task' group by all order by all"
    assert [tuple(row.values()) for row in json.loads(succeeds("sql", moved, "--format", "json"))] == [
        ("cat", "dog"), ("dog", "cat"), ("run", "sit"), ("sit", "run"),
    ]  # fmt: skip


def test_a_corpus_without_words_or_strata_is_not_shuffled_by_them(fails, store, contents):
    before = contents(store)
    shuffle = ("--store", store, "corpus", "shuffle", "words", "--name", "null")
    assert fails(*shuffle, "--by", "word").startswith("corpus words: 9 of 9 instances are no words but whole texts")
    assert fails(*shuffle, "--within", "stratum").startswith("corpus words: no instance has a stratum; build it anew")
    assert contents(store) == before


def test_a_corpus_to_shuffle_that_is_not_there_is_one_clear_line(fails, store, contents):
    before = contents(store)
    line = fails("--store", store, "corpus", "shuffle", "wrds", "--name", "null")
    assert line == f"no corpus 'wrds' in {store}; did you mean 'words'?"
    assert contents(store) == before


def test_a_corpus_is_not_shuffled_into_its_own_name(fails, store, contents):
    before = contents(store)
    line = fails("--store", store, "corpus", "shuffle", "words", "--name", "words")
    assert line.startswith(f"corpus 'words' in {store} holds other content")
    assert contents(store) == before


def test_a_corpus_that_is_not_there_is_named_beside_those_that_are(fails, made_store):
    assert fails("--store", made_store, "corpus", "show", "wrds").startswith(
        f"no corpus 'wrds' in {made_store}; did you mean 'words'?"
    )
    assert "available: words" in fails("--store", made_store, "corpus", "show", "quite-another")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"txt": "a", "labels": ["f/g"]}\n', "a.jsonl, line 1: no column 'text'; columns: txt, labels"),
        ("a.jsonl", '{"text": "a", "labels": ["f/g"]}\n{"text": " ", "labels": []}\n' * 2, "a.jsonl, line 2: empty"),
        ("a.jsonl", '{"text": "a", "labels": ["f/g"]}\n{oops\n', "a.jsonl, line 2: not valid JSON"),
        ("a.jsonl", '{"text": "a", "labels": ["f"]}\n', "line 1: label 'f' is not of the form family/function"),
        ("a.jsonl", '{"text": "a"}\n', "a.jsonl: no labels"),
        ("a.jsonl", '{"text": "a", "start": 0, "end": 9, "labels": ["f/g"]}\n', "line 1: the span 0-9 is not inside"),
        ("a.jsonl", '{"text": "a", "start": 0, "labels": ["f/g"]}\n', "line 1: the span has a start (0) but no end"),
        ("a.jsonl", '{"text": "a", "labels": ["f/g"]}\n{"text": "b", "labels": ["f/g"]}\n', "f/g (2 positive, 0 neg"),
        ("a.jsonl", "", "a.jsonl: no rows"),
        ("a.csv", "text,f/g\na,perhaps\n", "a.csv, line 2: label 'f/g' is not boolean: 'perhaps'"),
        ("a.csv", "words,f/g\na,true\n", "no column 'text'; columns: words, f/g"),
        ("a.parquet", "garbage", "a.parquet: not Parquet, or damaged"),
        ("a.txt", "text", "the suffix tells the format: .jsonl"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_corpus_is_one_clear_line(fails, store, tmp_path, contents, name, content, message):
    before = contents(store)
    (tmp_path / name).write_text(content)
    line = fails("--store", store, "corpus", "add", tmp_path / name, "--name", "new")
    assert message in line
    assert name in line
    assert contents(store) == before


def test_a_file_that_is_no_corpus_makes_no_store(fails, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "labels": ["f/g"]}\n')
    fails("corpus", "add", tmp_path / "a.jsonl", "--name", "new")
    assert list(Path.cwd().iterdir()) == []


def test_a_parquet_corpus_cut_short_is_one_clear_line(fails, store, tmp_path, contents, made_store):
    before = contents(store)
    source = next(made_store.glob("data/texts/*.parquet"))
    (tmp_path / "a.parquet").write_bytes(source.read_bytes()[:-20])
    assert "not Parquet, or damaged" in fails(
        "--store", store, "corpus", "add", tmp_path / "a.parquet", "--name", "new"
    )
    assert contents(store) == before


def test_a_name_with_a_space_is_refused(fails, corpus_file):
    assert "use letters, digits" in fails("corpus", "add", corpus_file, "--name", "my words")
    assert list(Path.cwd().iterdir()) == []


def test_labelled_folders_are_built(succeeds):
    for label in ("sports", "politics"):
        (Path("news") / label).mkdir(parents=True)
        for number in range(3):
            (Path("news") / label / f"{number}.txt").write_text(f"{label} text {number}")
    built = succeeds("corpus", "build", "folders", "news", "--name", "news", "--family", "topic", "--cap", "2")
    assert built.splitlines()[0] == "corpus news: 4 instances of 4 texts, 1 function"
    assert (
        succeeds("corpus", "show", "news", "--format", "csv")
        .splitlines()[1]
        .startswith("topic,politics-sports,2,2,0.5")
    )


def test_a_treebank_is_built_from_a_real_file(succeeds, tmp_path):
    line = "1\tcats\tcat\tNOUN\t_\t_\t2\tnsubj\t_\t_\n2\tsleep\tsleep\tVERB\t_\t_\t0\troot\t_\t_\n\n"
    (tmp_path / "tree.conllu").write_text(f"# text = cats sleep\n{line}")
    built = succeeds(
        "corpus", "build", "conllu", tmp_path / "tree.conllu", "--name", "tree", "--min-count", "1", "--licence", "CC0"
    )
    assert built.startswith("corpus tree: 2 instances of 1 text, 4 functions\n")


def test_an_encoding_is_said_or_found_out(succeeds, fails):
    Path("a.csv").write_bytes(b"text,f/g\ncaf\xe9,yes\nb,no\n")
    assert "1  file that is not UTF-8, read as cp1252" in succeeds("corpus", "add", "a.csv", "--name", "found")
    assert "read as" not in succeeds("corpus", "add", "a.csv", "--name", "said", "--encoding", "latin-1")
    said = fails("corpus", "add", "a.csv", "--name", "other", "--encoding", "utf-8")
    assert said == "a.csv, line 2: byte 0xe9 is not utf-8 (invalid continuation byte)"


@pytest.mark.parametrize("kind", ["semcor", "trex", "conllu", "folders"])
def test_a_folder_without_what_is_to_be_read_is_one_clear_line(fails, kind):
    Path("empty").mkdir()
    assert fails("corpus", "build", kind, "empty", "--name", "new").startswith("empty: ")
    assert [path.name for path in Path.cwd().iterdir()] == ["empty"]


@pytest.mark.reference
def test_facts_are_built_from_a_real_folder(succeeds, shared):
    built = succeeds("corpus", "build", "trex", shared / "corpora" / "trex", "--name", "facts", "--cap", "5")
    lines = built.splitlines()
    assert lines[0] == "corpus facts: 410 instances of 410 texts, 41 functions"
    assert any("beyond the cap" in line for line in lines[1:])


def test_a_dataset_that_lacks_the_column_is_one_clear_line_without_progress_bars(tmp_path, python):
    pytest.importorskip("datasets", reason="the hub extra is not installed")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"sentence": "fine"}\n')
    process = python(
        *("-m", "neuronlake", "--store", str(tmp_path / "store")),
        *("corpus", "build", "huggingface", str(tmp_path / "data"), "--name", "new"),
        HF_HOME=str(tmp_path / "cache"),
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith("Error: ")
    assert process.stderr.count("\n") == 1
    assert "'label'" in process.stderr
    assert not (tmp_path / "store").exists()


def test_a_corpus_whose_file_is_corrupt_is_named(fails, store):
    (path,) = store.glob("data/corpora/*.parquet")
    path.write_bytes(b"junk")
    assert path.name in fails("--store", store, "corpus", "list")
    assert path.name in fails("--store", store, "corpus", "show", "words")
    shutil.rmtree(store)
