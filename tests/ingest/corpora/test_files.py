"""Bytes to text as every reader does it: here through `read_text` and `lines`."""

import gzip
import os

import pytest

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora import files
from neuronlake.ingest.corpora.files import lines, read_text, visible_files
from neuronlake.ingest.corpora.instance import Reading


@pytest.fixture
def read(tmp_path):
    """Return a function from bytes to text and counts."""

    def read(content, encoding=None):
        reading = Reading(encoding=encoding)
        (tmp_path / "mine.txt").write_bytes(content)
        return read_text(tmp_path / "mine.txt", reading), reading.dropped

    return read


def test_a_folder_that_may_not_be_read_is_not_an_empty_one(tmp_path, monkeypatch):
    (tmp_path / "sport").mkdir()
    (tmp_path / ".git").mkdir()
    assert visible_files(tmp_path, "*/*", Reading()) == []
    monkeypatch.setattr(os, "access", lambda path, mode: path == tmp_path)
    with pytest.raises(IngestError, match=r"cannot read .*sport: permission denied$"):
        visible_files(tmp_path, "*/*", Reading())


def test_a_link_that_leads_nowhere_is_refused(tmp_path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(IngestError, match=r"cannot read .*a.txt: no file, or a link to none$"):
        visible_files(tmp_path, "*", Reading())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding_and_is_no_text(read, encoding):
    assert read("“Ünï” €".encode(encoding)) == ("“Ünï” €", {})


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-32-be"])
def test_big_endian_text_is_read_by_its_mark(read, encoding):
    assert read("\ufeffé".encode(encoding)) == ("é", {})


def test_a_file_that_is_not_utf8_is_read_as_cp1252_as_a_whole_and_counted(read):
    assert read(b"It\x92s \x93quoted\x94\r\n\x805 \x96 caf\xe9") == (
        "It’s “quoted”\r\n€5 – café",
        {"file that is not UTF-8, read as cp1252": 1},
    )


def test_a_file_of_utf8_with_a_damaged_character_is_refused(read):
    with pytest.raises(IngestError, match=r"mine.txt, line 2: byte 0xe9 is not utf-8 .*; the rest of the file is"):
        read("é “ü”\n".encode() + b"caf\xe9")


def test_a_byte_of_neither_utf8_nor_cp1252_is_refused_with_its_line(read):
    with pytest.raises(IngestError, match=r"mine.txt, line 3: byte 0x81 is not cp1252 .* is not utf-8 either"):
        read(b"a\rb\r\n\x81")


def test_text_in_utf16_without_a_mark_is_refused_unless_its_encoding_is_said(read):
    content = "a\né".encode("utf-16-le")
    with pytest.raises(IngestError, match=r"mine.txt, line 1: a NUL character"):
        read(content)
    assert read(content, encoding="utf-16-le") == ("a\né", {})
    assert read(b"\xff\xfe" + content, encoding="utf-16-le") == ("a\né", {})


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"caf\xe9", "utf-8", r"mine.txt, line 1: byte 0xe9 is not utf-8"),
        (b"a\x81", "cp1252", r"mine.txt, line 1: byte 0x81 is not cp1252"),
        (b"abcd", "utf-16", r"mine.txt: .*BOM"),
        (b"\xef\xbb\xbfa", "latin-1", r"mine.txt: not latin-1: its byte-order mark says utf-8$"),
        (b"a", "klingon", r"no encoding 'klingon'; there are utf-8"),
        (b"a", "rot13", r"no encoding 'rot13'"),
    ],
)
def test_an_encoding_said_is_not_departed_from(read, content, encoding, message):
    with pytest.raises(IngestError, match=message):
        read(content, encoding=encoding)


def test_a_character_cut_by_the_end_of_a_chunk_is_read(read, monkeypatch):
    monkeypatch.setattr(files, "_CHUNK_BYTES", 3)
    assert read("aé€😀\r\n\n".encode())[0] == "aé€😀\r\n\n"
    with pytest.raises(IngestError, match=r"line 3: byte 0xff is not utf-8"):
        read("aé€😀\r\n\né".encode() + b"\xff", encoding="utf-8")


def test_lines_end_as_any_system_ends_them_and_are_counted(tmp_path):
    path, reading = tmp_path / "mine.txt.gz", Reading()
    path.write_bytes(gzip.compress("\ufeffa\rb\r\nc\x85\u2028\nd".encode()))
    assert list(lines(path, reading)) == ["a\r", "b\r\n", "c\x85\u2028\n", "d"]
    assert reading.place == f"{path}, line 4"
