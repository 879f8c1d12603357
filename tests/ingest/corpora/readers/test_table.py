import gzip
import json
import os

import polars as pl
import pytest

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.readers.table import read_table


@pytest.fixture
def jsonl(tmp_path):
    def write(*rows):
        path = tmp_path / "mine.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "mine.csv"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def parquet(tmp_path):
    def write(rows, **schema):
        path = tmp_path / "mine.parquet"
        pl.DataFrame(rows, schema_overrides=schema).write_parquet(path)
        return path

    return write


def test_labels_as_a_list_leave_the_rest_negative(jsonl):
    source = read_table(
        jsonl(
            {"text": "a cat", "labels": ["task/animal", "task/pet"], "id": 7, "start": 2, "end": 5, "target": "cat"},
            {"text": "a car", "labels": [], "group": "cars", "comment": "ignored"},
        )
    )
    assert source.negatives == "rest"
    assert source.origin == "table: mine.jsonl"
    assert list(source.instances) == [
        Instance("a cat", {"task/animal": True, "task/pet": True}, 2, 5, "cat", "7"),
        Instance("a car", {}, split_group="cars"),
    ]


def test_labels_as_a_mapping_are_explicit_and_null_is_outside(jsonl):
    source = read_table(
        jsonl(
            {"text": "a cat", "labels": {"task/animal": True, "task/car": None}},
            {"text": "a car", "labels": {"task/animal": False}},
            {"text": "a what"},
        )
    )
    assert source.negatives == "explicit"
    assert [each.labels for each in source.instances] == [{"task/animal": True}, {"task/animal": False}, {}]


def test_boolean_columns_are_explicit_and_null_is_outside(jsonl):
    source = read_table(
        jsonl({"text": "a cat"}, {"text": "a car", "task/animal": False, "task/car": None}, {"text": "b", "f/g": True})
    )
    assert source.negatives == "explicit"
    assert [each.labels for each in source.instances] == [{}, {"task/animal": False}, {"f/g": True}]


def test_a_csv_file_may_hold_boolean_columns(csv):
    source = read_table(csv('text,task/a,task/b.c,id,start,end\n"one, ""1""\nline",true,,x1,0,3\ntwo,0,FALSE,,,\n'))
    assert source.negatives == "explicit"
    assert list(source.instances) == [
        Instance('one, "1"\nline', {"task/a": True}, 0, 3, source_id="x1"),
        Instance("two", {"task/a": False, "task/b.c": False}),
    ]


def test_a_csv_file_may_hold_names_separated_by_semicolons(csv):
    source = read_table(csv("text,labels\none,\ntwo,f/a; f/b\nthree,[]\n"))
    assert source.negatives == "rest"
    assert [each.labels for each in source.instances] == [{}, {"f/a": True, "f/b": True}, {}]


def test_a_csv_file_may_hold_labels_as_json(csv):
    lists = read_table(csv('text,labels\none,"[""f/a"", ""f/b""]"\ntwo,[]\nthree,f/c\n'))
    assert [each.labels for each in lists.instances] == [{"f/a": True, "f/b": True}, {}, {"f/c": True}]
    mappings = read_table(csv('text,labels\none,"{""f/a"": false}"\n'))
    assert (mappings.negatives, [each.labels for each in mappings.instances]) == ("explicit", [{"f/a": False}])


def test_a_byte_order_mark_is_skipped_and_a_long_cell_is_read(csv):
    path = csv("")
    path.write_bytes("\ufefftext,f/a\n".encode() + b"x" * 200_000 + b",true\n")
    assert [len(each.text) for each in read_table(path).instances] == [200_000]


def test_a_compressed_file_is_read(tmp_path):
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a", "labels": ["f/g"]}\n'))
    assert list(read_table(path).instances) == [Instance("a", {"f/g": True})]


def test_parquet_lists_structs_and_boolean_columns_are_read(parquet):
    lists = read_table(parquet({"text": ["a", "b"], "labels": [["f/g"], []], "start": [0.0, None], "end": [1, None]}))
    assert lists.negatives == "rest"
    assert list(lists.instances) == [Instance("a", {"f/g": True}, 0, 1), Instance("b", {})]
    structs = read_table(parquet({"text": ["a", "b"], "labels": [{"f/g": True, "f/h": None}, {"f/h": False}]}))
    assert structs.negatives == "explicit"
    assert [each.labels for each in structs.instances] == [{"f/g": True}, {"f/h": False}]
    columns = read_table(parquet({"text": ["a", "b"], "f/g.h": [True, None], "other": [1, 2]}))
    assert columns.negatives == "explicit"
    assert [each.labels for each in columns.instances] == [{"f/g.h": True}, {}]


def test_a_large_parquet_file_is_read_in_batches_and_keeps_row_numbers(parquet):
    n_rows = 10_000
    texts = [str(row) for row in range(n_rows)]
    source = read_table(parquet({"text": texts, "f/g": [True] * n_rows, "start": [None] * (n_rows - 1) + [0.5]}))
    with pytest.raises(IngestError, match=r"mine.parquet, row 10000: column 'start' is not a whole number: 0.5$"):
        list(source.instances)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"txt": "a", "labels": []}], r"line 1: no column 'text'; columns: txt, labels$"),
        ([{"text": 3, "labels": []}], r"line 1: column 'text' is not a string: 3$"),
        ([{"text": "a", "label": 1}], r"mine.jsonl: no labels: .*; columns: text, label$"),
        ([], r"mine.jsonl: no rows$"),
        ([{"text": "a", "labels": ["f/g"]}, {"text": "b", "labels": {"f/g": True}}], r"line 2: labels as a mapping"),
        ([{"text": "a", "labels": ["f/g"]}, {"text": "b", "f/g": True}], r"line 2: labels as boolean columns"),
        ([{"text": "a", "labels": ["f/g"], "f/h": True}], r"line 1: labels twice: .* in column 'f/h'"),
        ([{"text": "a", "labels": []}, {"text": "b"}], r"line 2: column 'labels' is missing or NULL"),
        ([{"text": "a", "labels": [1]}], r"line 1: a label in column 'labels' is not a string: 1$"),
        ([{"text": "a", "labels": 1}], r"line 1: column 'labels' is neither a list nor a mapping: 1$"),
        ([{"text": "a", "labels": {"f/g": 2}}], r"line 1: label 'f/g' is not boolean: 2$"),
        ([{"text": "a", "f/g": "maybe"}], r"line 1: label 'f/g' is not boolean: 'maybe'$"),
        ([{"text": "a", "labels": [], "start": "one"}], r"line 1: column 'start' is not a whole number: 'one'$"),
        ([{"text": "a", "labels": [], "start": True}], r"line 1: column 'start' is not a whole number: True$"),
        ([["a"]], r"line 1: not a JSON object"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(jsonl, rows, message):
    path = jsonl(*rows)
    with pytest.raises(IngestError, match=message):
        list(read_table(path).instances)


def test_invalid_json_is_refused_with_its_line(jsonl):
    path = jsonl({"text": "a", "labels": ["f/g"]})
    path.write_text(path.read_text() + "\n{'text': 1}\n")
    with pytest.raises(IngestError, match=r"mine.jsonl, line 3: not valid JSON: Expecting property name"):
        list(read_table(path).instances)


def test_bytes_that_are_not_of_the_encoding_said_are_refused_with_their_line(jsonl):
    path = jsonl({"text": "a", "labels": []})
    path.write_bytes(path.read_bytes() + b'{"text": "\xe9", "labels": []}\n')
    assert [each.text for each in read_table(path).instances] == ["a", "\xe9"]
    with pytest.raises(IngestError, match=r"mine.jsonl, line 2: byte 0xe9 is not utf-8"):
        read_table(path, encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, r"line 1: not valid JSON: nested too deeply$"),
        ('{"text": 1' + "0" * 5000 + "}", r"line 1: not valid JSON: Exceeds the limit"),
        ('{"text": "a", "text": "b"}', r"line 1: not valid JSON: key 'text' occurs twice$"),
        ('{"text": "a", "labels": "' + "[" * 100_000 + '"}', r"line 1: column 'labels' is not valid JSON: nested too"),
        ('{"text": "a", "labels": [], "start": Infinity}', r"line 1: column 'start' is not a whole number: inf$"),
        ('{"text": "a", "labels": [NaN]}', r"line 1: a label in column 'labels' is not a string: nan$"),
    ],
)
def test_json_that_python_reads_and_nobody_means_is_refused(tmp_path, line, message):
    (tmp_path / "mine.jsonl").write_text(line)
    with pytest.raises(IngestError, match=message):
        list(read_table(tmp_path / "mine.jsonl").instances)


def rows_of(path):
    return [(each.labels, each.start, each.end) for each in read_table(path).instances]


@pytest.mark.parametrize(
    ("as_csv", "as_json", "value"),
    [
        ("1", "1", True), ("0", "0", False), ("1.0", "1.0", True), ("0.0", "0.0", False), ("True", "true", True),
        ("no", '"no"', False), ("YES", '"YES"', True), ("", "null", None), ("nan", "NaN", None),
    ],
)  # fmt: skip
def test_one_value_is_one_label_in_csv_json_and_parquet(csv, jsonl, parquet, as_csv, as_json, value):
    labels = {} if value is None else {"f/g": value}
    assert rows_of(csv(f"text,f/g,f/h\na,{as_csv},1\n")) == [({**labels, "f/h": True}, None, None)]
    path = jsonl()
    path.write_text(f'{{"text": "a", "f/g": {as_json}, "f/h": 1}}')
    assert rows_of(path) == [({**labels, "f/h": True}, None, None)]
    assert rows_of(parquet({"text": ["a"], "f/g": [json.loads(as_json)], "f/h": [1]})) == rows_of(path)


def test_a_span_is_whole_numbers_however_they_are_written(csv, jsonl, parquet):
    spans = [({"f/g": True}, 0, 1), ({"f/g": True}, None, None)]
    assert rows_of(csv("text,start,end,f/g\na,0.0,1.0,1\nb,,,1\n")) == spans
    nan = float("nan")
    rows = {"text": ["a", "b"], "start": [0.0, nan], "end": [1.0, nan], "f/g": [True, True]}
    assert rows_of(parquet(rows)) == spans
    assert rows_of(jsonl(*(dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)))) == spans


def test_lemma_and_stratum_are_read_from_csv_json_and_parquet(csv, jsonl, parquet):
    rows = [
        {"text": "it ran", "labels": ["a/b"], "start": 3, "end": 6, "lemma": "run", "stratum": 2},
        {"text": "it", "labels": ["a/b"], "start": None, "end": None, "lemma": None, "stratum": None},
    ]
    lines = ["text,labels,start,end,lemma,stratum", "it ran,a/b,3,6,run,2", "it,a/b,,,,"]
    for path in (jsonl(*rows), csv("\n".join(lines)), parquet(rows)):
        found = [(each.lemma, each.stratum) for each in read_table(path).instances]
        assert found == [("run", "2"), (None, None)]


def test_an_id_or_group_of_nan_is_none(jsonl):
    row = {"text": "a", "labels": ["f/g"], "id": float("nan"), "group": float("nan"), "target": float("nan")}
    assert list(read_table(jsonl(row)).instances) == [Instance("a", {"f/g": True})]


@pytest.mark.parametrize(
    "text",
    [
        "text;f/g\none;1\ntwo;0\n",
        "text\tf/g\none\t1\ntwo\t0\n",
        "text, f/g\none, 1\ntwo, 0\n",
        'text, f/g\n"one", 1\ntwo, "0"\n',
        "text,f/g,,,\none,1,,,\ntwo,0,,,\n,,,,\n",
        "text,f/g\none,1,,\ntwo,0\n",
        ",text,f/g\n0,one,1\n1,two,0\n",
        "text,f/g\rone,1\rtwo,0\r",
        "\ufefftext,f/g\r\none,1\r\ntwo,0\r\n",
        "\ufeff\ufefftext,f/g\none,1\n\ufefftwo,0\n",
        "\n\ntext,f/g\none,1\n\ntwo,0\n",
    ],
)
def test_a_csv_file_of_another_shape_is_read_as_if_it_were_plain(tmp_path, text):
    (tmp_path / "mine.csv").write_bytes(text.encode())
    assert list(read_table(tmp_path / "mine.csv").instances) == [
        Instance("one", {"f/g": True}),
        Instance("two", {"f/g": False}),
    ]


def test_a_list_as_python_writes_it_is_read(csv):
    path = csv("text,labels\none,\"['f/a', 'f/b']\"\ntwo,['f/c']\nthree,[]\n")
    assert [list(each.labels) for each in read_table(path).instances] == [["f/a", "f/b"], ["f/c"], []]


@pytest.mark.parametrize("path", ["jsonl", "csv", "parquet"])
def test_a_null_or_empty_text_is_left_out_and_counted(request, built, path):
    write = request.getfixturevalue(path)
    if path == "csv":
        file = write("text,f/g\na,1\n,1\nb,0\n")
    elif path == "parquet":
        file = write({"text": ["a", None, "b"], "f/g": [1, 1, 0]})
    else:
        file = write({"text": "a", "f/g": 1}, {"text": None, "f/g": 1}, {"text": "b", "f/g": 0})
    assert built(read_table(file)).dropped == {"empty text": 1}


def test_a_column_of_classes_is_refused_with_the_reader_of_classes(csv, parquet):
    for path in (csv("text,label\na,sport\n"), parquet({"text": ["a"], "label": ["sport"]})):
        with pytest.raises(
            IngestError, match=r"read by 'corpus build huggingface FILE --label-column label'; columns: text, label$"
        ):
            read_table(path)


def test_an_encoding_of_parquet_is_refused(parquet):
    with pytest.raises(IngestError, match=r"mine.parquet: the text of a Parquet file is UTF-8"):
        read_table(parquet({"text": ["a"], "f/g": [True]}), encoding="latin-1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,f/g\na\n", r"mine.csv, line 2: 1 cells, the header has 2$"),
        ("text,text\na,b\n", r"mine.csv, line 1: column 'text' occurs twice$"),
        ('text,f/g\n"a,true\n', r"mine.csv, line 2: not valid CSV: unexpected end of data$"),
        ("text,f/g\na,maybe\n", r"mine.csv, line 2: label 'f/g' is not boolean: 'maybe'$"),
        ("text,f/g,start\na,true,one\n", r"mine.csv, line 2: column 'start' is not a whole number: 'one'$"),
        ("text,labels\na,[f/g]\n", r"mine.csv, line 2: column 'labels' is not valid JSON"),
        (
            "text,labels\na,['f/g' 'f/h']\n",
            r"line 2: column 'labels' is not valid JSON: .*; a list is \[\"f/a\", \"f/b\"\]",
        ),
        ('text,labels\na,"f/g, f/h"\n', r"line 2: column 'labels' holds 'f/g, f/h'; separate names by semicolons$"),
        ("text;labels\na;f/g|f/h\n", r"line 2: column 'labels' holds 'f/g\|f/h'; separate names by semicolons$"),
        ("text,labels\na,\"('f/g',)\"\n", r"line 2: column 'labels' is not valid JSON"),
        ("text,f/g,,\na,1,x,\n", r"mine.csv, line 2: 4 cells, the header has 2$"),
        ("a,text,b;text;f/g\n", r"mine.csv, line 1: the cells are separated by ',' or by ';'; keep one$"),
        ("Text;label\na;b\n", r"mine.csv, line 1: no column 'text'; columns: Text, label$"),
        ("word,f/g\na,true\n", r"mine.csv, line 1: no column 'text'; columns: word, f/g$"),
        ("", r"mine.csv: no rows$"),
    ],
)
def test_bad_csv_is_refused_with_its_line(csv, text, message):
    path = csv(text)
    with pytest.raises(IngestError, match=message):
        list(read_table(path).instances)


def test_a_parquet_file_without_text_is_refused(parquet):
    with pytest.raises(IngestError, match=r"mine.parquet: no column 'text'; columns: txt, f/g$"):
        read_table(parquet({"txt": ["a"], "f/g": [True]}))


def test_a_parquet_column_of_numbers_is_refused(parquet):
    with pytest.raises(IngestError, match=r"mine.parquet, row 1: label 'f/g' is not boolean: 2$"):
        list(read_table(parquet({"text": ["a"], "f/g": [2]})).instances)


def test_a_parquet_text_that_is_not_unicode_is_refused(parquet):
    import pyarrow as pa

    _, *buffers = pa.array([b"\xff"]).buffers()
    path = parquet({"text": pa.StringArray.from_buffers(1, *buffers), "f/g": [True]})
    with pytest.raises(IngestError, match=r"cannot read .*mine.parquet: not Parquet, or damaged: .*0xff"):
        read_table(path)


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_damaged_parquet_is_refused(parquet, keep):
    path = parquet({"text": ["a"] * 100, "f/g": [True] * 100})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IngestError, match=r"cannot read .*mine.parquet: not Parquet, or damaged"):
        read_table(path)


def test_parquet_damaged_in_its_middle_is_refused(parquet):
    path = parquet({"text": [f"text {row * 7919}" for row in range(2000)], "f/g": [True] * 2000})
    content = bytearray(path.read_bytes())
    content[50:2000] = bytes(1950)
    path.write_bytes(content)
    with pytest.raises(IngestError, match=r"cannot read .*mine.parquet: not Parquet, or damaged"):
        list(read_table(path).instances)


@pytest.mark.parametrize("name", ["absent.jsonl", "absent.csv", "absent.parquet", "absent.jsonl.gz"])
def test_a_missing_file_is_refused(tmp_path, name):
    with pytest.raises(IngestError, match=r"cannot read .*absent.*: [Nn]o such file"):
        read_table(tmp_path / name)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "mine.csv")
    with pytest.raises(IngestError, match=r"mine.csv: a pipe cannot be read twice"):
        read_table(tmp_path / "mine.csv")


def test_a_truncated_gzip_file_is_refused(tmp_path):
    path = tmp_path / "mine.csv.gz"
    path.write_bytes(gzip.compress(b"text,f/g\n" + b"a,true\n" * 1000)[:-12])
    with pytest.raises(IngestError, match=r"cannot read .*mine.csv.gz: Compressed file ended"):
        list(read_table(path).instances)


@pytest.mark.parametrize("name", ["mine.txt", "mine", "mine.parquet.gz"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(IngestError, match=r"the suffix tells the format: .jsonl, .ndjson, .csv"):
        read_table(tmp_path / name)


def test_rows_of_one_text_with_different_spans_share_the_text(built, csv):
    report = built(read_table(csv("text,start,end,f/g\nab,0,1,true\nab,1,2,false\ncd,0,1,true\n")))
    assert (report.n_texts, report.n_instances) == (2, 3)
