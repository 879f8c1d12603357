"""A pack in one file: the same bytes each time, read in place, and harmless however it was made."""

import shutil
import zipfile

import pytest

from neuronlake.errors import NeuronlakeError, StoreError
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store
from neuronlake.sharing.merging import merge_stores
from neuronlake.sharing.pack import pack_store
from neuronlake.sharing.transfer import pull_store
from neuronlake.sharing.verify import verify_store


@pytest.fixture
def archive(laboratory, tmp_path):
    return pack_store(laboratory, tmp_path / "pack.zip").path


def rewritten(archive, *, compression=zipfile.ZIP_STORED, **changes):
    """Return an archive of the same members but for some, by the start of their names."""
    target = archive.with_name("rewritten.zip")
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w", compression) as written:
        for member in source.infolist():
            data = source.read(member)
            for start, change in changes.items():
                data = change(data) if member.filename.startswith(start) else data
            written.writestr(member.filename, data)
    return target


def test_a_pack_in_one_file_is_the_same_bytes_and_answers_as_its_folder(laboratory, archive, tmp_path, contents):
    again = pack_store(laboratory, tmp_path / "again.zip")
    assert again.path.read_bytes() == archive.read_bytes()
    folder = pack_store(laboratory, tmp_path / "folder").path
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in opened.namelist()} == contents(folder)
    with Database(archive) as packed, Database(laboratory) as store:
        for query in ("from runs", "from specialization order by all", "from neuron_functions order by all"):
            assert packed.sql(query).rows() == store.sql(query).rows() != []
    assert verify_store(archive).n_runs == 2
    with pytest.raises(StoreError, match="it exists"):
        pack_store(laboratory, archive)
    assert sorted(path.name for path in tmp_path.glob("*.zip*")) == ["again.zip", "pack.zip"]


def test_pulling_unpacks_it_and_merging_takes_it(laboratory, archive, tmp_path, contents):
    assert pull_store(archive, tmp_path / "pulled").n_jobs == 6
    assert merge_stores([archive], into=tmp_path / "merged").n_new == 6
    assert contents(tmp_path / "pulled") == contents(tmp_path / "merged") == contents(laboratory)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"compression": zipfile.ZIP_DEFLATED}, r"commits.json is compressed, encrypted or cut"),
        ({"commits.json": lambda data: data.replace(b"data/runs/", b"data/../../")}, "is no place for rows"),
        ({"commits.json": lambda data: data.replace(b"data/runs/", b"/etc/")}, "is no place for rows"),
        ({"commits.json": lambda _: b"{"}, "cannot read the commits"),
        ({"data/runs": lambda data: data[:40]}, "shorter than its commit says"),
        ({"data/runs": lambda data: data[:-1] + b"x"}, "cannot read|altered"),
    ],
)
def test_an_archive_made_to_harm_is_one_line_and_nothing_is_written(archive, tmp_path, how, message):
    bad = rewritten(archive, **how)
    with pytest.raises(NeuronlakeError, match=message) as refused:
        pull_store(bad, tmp_path / "pulled")
    assert "\n" not in str(refused.value)
    assert not {commit.kind for commit in Store(tmp_path / "pulled").commits()} - {"corpus"}
    with pytest.raises(NeuronlakeError, match=message):
        verify_store(bad)


def test_members_that_no_commit_names_are_left_and_what_is_no_archive_is_one_line(archive, tmp_path):
    with zipfile.ZipFile(archive, "a") as opened:
        for name in ("../outside.txt", "/tmp/absolute.txt", "data/link"):
            opened.writestr(name, "x" * 1000)
    pull_store(archive, tmp_path / "deep" / "pulled")
    assert not (tmp_path / "deep" / "outside.txt").exists()
    assert {path.name for path in (tmp_path / "deep" / "pulled").iterdir()} == {
        "commits",
        "data",
        "README.md",
        ".staging",
    }
    (tmp_path / "none.zip").write_bytes(b"PK nothing")
    (tmp_path / "cut.zip").write_bytes(archive.read_bytes()[:-300])
    for name, message in (("none.zip", "cannot read .*none.zip"), ("cut.zip", "cannot read"), ("gone.zip", "no store")):
        with pytest.raises(StoreError, match=message):
            Database(tmp_path / name)
    shutil.copytree(tmp_path / "deep" / "pulled", tmp_path / "folder.zip")
    assert len(Database(tmp_path / "folder.zip").sql("from runs")) == 2
