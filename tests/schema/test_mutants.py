"""A store altered in hundreds of seeded ways: nothing crashes, and `check` sees whatever changes an answer.

`pytest -s` prints how many mutants of each kind were refused by readers, seen by `check` and answered otherwise.
"""

import functools
import itertools
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuronlake.errors import NeuronlakeError
from neuronlake.queries import cache
from neuronlake.queries.cache import materialize
from neuronlake.queries.database import Database
from neuronlake.schema.conformance import arrow_schema
from neuronlake.schema.names import file_sha256
from neuronlake.schema.store import Store
from neuronlake.schema.tables import table

RUN, COMMIT = "0123456789abcdef", "commits/0123456789abcdef.json"
MODEL = f"m/main/{RUN}"
FILES = (f"data/neurons/{MODEL}-0.parquet", f"data/neurons/{MODEL}-1.parquet", f"data/runs/{MODEL}-0.parquet")
Mutate = Callable[[Path], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """Return a store of one run: two parts of neurons, and a row of all that is known of it."""
    store = Store(tmp_path_factory.mktemp("mutants") / "store")
    with store.job(RUN, kind="run") as job:
        for layer in (0, 1):
            job.write("neurons", _rows("neurons", n=6, layer=layer), part=layer, model="m", revision="main")
        job.write("runs", _rows("runs", n=1), model="m", revision="main")
        job.commit()
    return store.path


def _rows(name: str, *, n: int, layer: int = 0) -> pa.Table:
    fixed = {"run_id": RUN, "model": "m", "revision": "main", "stack": "encoder", "layer": layer}
    example = {"bool": True, "string": "x", "timestamp": 0}
    columns = {column.name: [fixed.get(column.name, example.get(column.type, 1))] * n for column in table(name).columns}
    columns |= {"neuron": list(range(n))} if "neuron" in columns else {}
    arrays = [pa.array(columns[field.name], field.type) for field in arrow_schema(table(name))]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(table(name)))


# Ways to alter a commit.


def _edit(store: Path, change: Callable[[dict], object]) -> None:
    """Change the object in the commit."""
    commit = json.loads((store / COMMIT).read_text())
    change(commit)
    _put(store / COMMIT, json.dumps(commit).encode())


def _put(path: Path, content: bytes) -> None:
    """Write a file anew: what lies there is a link to that of the sound store."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


_VALUES = (None, True, 0, -1, 1.5, 10**30, "", "x", "\ud800", [], {}, [None])
_KEYS = ("job", "kind", "schema_version", "neuronlake_version", "committed_at", "files")
_FILE_KEYS = ("path", "table", "n_rows", "size_bytes", "sha256")


def commit_keys(_: random.Random) -> Iterator[Mutate]:
    for key, value in itertools.product(_KEYS, _VALUES):
        yield lambda store, key=key, value=value: _edit(store, lambda commit: commit.update({key: value}))
    for key in _KEYS:
        yield lambda store, key=key: _edit(store, lambda commit: commit.pop(key))
        yield lambda store, key=key: _edit(store, lambda commit: commit.update({key.upper(): commit.pop(key)}))
    for content in (b"", b"{", b"null", b"[]", b"7", b'"x"', b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"9" * 5000):
        yield lambda store, content=content: _put(store / COMMIT, content)


def commit_entries(_: random.Random) -> Iterator[Mutate]:
    for key, value, index in itertools.product(_FILE_KEYS, _VALUES, (0,)):
        yield lambda store, key=key, value=value, index=index: _edit(
            store, lambda commit: commit["files"][index].update({key: value})
        )
    for key, index in itertools.product(_FILE_KEYS, range(3)):
        yield lambda store, key=key, index=index: _edit(store, lambda commit: commit["files"][index].pop(key))
    for index in range(3):
        yield lambda store, index=index: _edit(store, lambda commit: commit["files"].pop(index))
        yield lambda store, index=index: _edit(store, lambda commit: commit["files"].append(commit["files"][index]))
        yield lambda store, index=index: _edit(store, lambda commit: commit["files"][index].update(extra=1))
    yield lambda store: _edit(store, lambda commit: commit["files"].reverse())


def paths(_: random.Random) -> Iterator[Mutate]:
    first = FILES[0]
    written = (
        f"../store/{first}", f"./{first}", f"/{first}", f"data/../{first}", first.replace("/", "//", 1), f"{first}/",
        first.replace("-0", "-*"), first.replace("-0", "-?"), first.replace("-0", "-[01]"), first.replace(RUN, "*"),
        first.replace("/", "\\"), f"{first}\x00", f"{first}\n", f" {first}", f"{first} ", first.upper(),
        f"file://{first}", f"https://example.org/{first}", f"s3://{first}", first.replace("m/main", "m/.main"),
        first.replace("/m/", "/%2e%2e/"), first.replace(".parquet", ".csv"), first.replace(".parquet", ""),
        f"data/neurons/{'x' * 300}/main/{RUN}-0.parquet", first.replace("neurons", "runs"), first.replace("ns", ""),
        first.replace("-0", "-00"), first.replace("-0", "-1"), first.replace("-0", "-9"), first.replace("-0", "--1"),
        f"derived/{RUN}-0.parquet", COMMIT, "README.md", "/etc/passwd", "/dev/zero", "/dev/stdin", "data", ".", "..",
        "~", "data/neurons", "data/neurons/m/main/other-0.parquet", f"data/neurons/a/b/c/{RUN}-0.parquet",
    )  # fmt: skip
    for path in written:
        yield lambda store, path=path: _edit(store, lambda commit: commit["files"][0].update(path=path))
    places = (*FILES, COMMIT, "data", "data/neurons", "data/runs/m", "data/neurons/m/main", "commits")
    for place in places:
        yield lambda store, place=place: _link(store, place)
    for place in (*FILES, COMMIT):
        yield lambda store, place=place: ((store / place).unlink(), os.mkfifo(store / place))
        yield lambda store, place=place: ((store / place).unlink(), (store / place).mkdir())
        yield lambda store, place=place: ((store / place).unlink(), (store / place).symlink_to("nowhere"))
        yield lambda store, place=place: ((store / place).unlink(), (store / place).symlink_to(store / place))


def _link(store: Path, place: str) -> None:
    """Put a link where something lies, to that itself elsewhere."""
    elsewhere = store.with_name(f"{store.name}-elsewhere")
    (store / place).rename(elsewhere)
    (store / place).symlink_to(elsewhere)


def commit_bytes(chance: random.Random) -> Iterator[Mutate]:
    yield from (functools.partial(_flip, COMMIT, chance.random(), chance.randrange(1, 256)) for _ in range(40))
    yield from (functools.partial(_cut, COMMIT, chance.random()) for _ in range(10))


def commit_copies(_: random.Random) -> Iterator[Mutate]:
    names = (
        f"{RUN} (conflicted copy).json", f"{RUN} copy.json", f"{RUN} (1).json", f"{RUN}.sync-conflict-2024.json",
        f"{RUN}.JSON", f"{RUN}.json~", f"._{RUN}.json", f".{RUN}.json.swp", "x.json", f"a/{RUN}.json",
        f"{RUN}.json.json", "corpus-x.json",
    )  # fmt: skip
    for name, part in itertools.product(names, (1.0, 0.9, 0.0)):
        yield lambda store, name=name, part=part: _copy(store, name, part)
    for name in names[:6]:
        yield lambda store, name=name: (store / COMMIT).rename(store / "commits" / name)


def _copy(store: Path, name: str, part: float) -> None:
    content = (store / COMMIT).read_bytes()
    path = store / "commits" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content[: int(len(content) * part)])


# Ways to alter a data file; but for those that say so, size and digest in the commit are written anew.


def _flip(path: str, where: float, mask: int, store: Path) -> None:
    content = bytearray((store / path).read_bytes())
    content[int(where * len(content))] ^= mask
    _put(store / path, bytes(content))


def _cut(path: str, where: float, store: Path) -> None:
    content = (store / path).read_bytes()
    _put(store / path, content[: int(where * len(content))])


def _signed(path: str, mutate: Mutate, store: Path) -> None:
    """Mutate a file, and write its size and digest anew."""
    mutate(store)
    size, sha256 = (store / path).stat().st_size, file_sha256(store / path)

    def sign(commit: dict) -> None:
        (file,) = (each for each in commit["files"] if each["path"] == path)
        file.update(size_bytes=size, sha256=sha256)

    _edit(store, sign)


def _rewritten(path: str, change: Callable[[pa.Table], pa.Table], store: Path) -> None:
    """Write a file anew with other rows, all else as it was, and with it its size and digest."""

    def rewrite(store: Path) -> None:
        rows = pq.read_table(store / path, partitioning=None)
        described = pq.read_metadata(store / path).metadata
        (store / path).unlink()
        changed = change(rows)
        with pq.ParquetWriter(store / path, changed.schema, store_schema=False) as writer:
            writer.add_key_value_metadata({key.decode(): value.decode() for key, value in described.items()})
            writer.write_table(changed)

    _signed(path, rewrite, store)


def parquet_flips(chance: random.Random) -> Iterator[Mutate]:
    for path, _ in itertools.product(FILES, range(14)):
        yield functools.partial(_flip, path, chance.random(), chance.randrange(1, 256))


def parquet_flips_signed(chance: random.Random) -> Iterator[Mutate]:
    for path, _ in itertools.product(FILES, range(15)):
        flip = functools.partial(_flip, path, chance.random(), chance.randrange(1, 256))
        yield functools.partial(_signed, path, flip)


def parquet_truncation(chance: random.Random) -> Iterator[Mutate]:
    for path, index in itertools.product(FILES, range(14)):
        cut = functools.partial(_cut, path, index and chance.random())
        yield functools.partial(_signed, path, cut) if index % 2 else cut


def dropped_columns(_: random.Random) -> Iterator[Mutate]:
    for path, name in ((FILES[0], "neurons"), (FILES[2], "runs")):
        for column in table(name).columns:
            # Of two columns files of before may know nothing: without them, their values are unknown.
            if not column.is_late:
                yield functools.partial(_rewritten, path, lambda rows, column=column: rows.drop_columns(column.name))


def null_and_nan(_: random.Random) -> Iterator[Mutate]:
    for path, name in ((FILES[0], "neurons"), (FILES[2], "runs")):
        for column in table(name).columns:
            wrong = [] if column.nullable else [None]
            wrong += [float("nan"), float("inf"), float("-inf")] if column.type.startswith("float") else []
            for value in wrong:
                yield functools.partial(_rewritten, path, functools.partial(_with_value, column.name, value))


def _with_value(name: str, value: object, rows: pa.Table) -> pa.Table:
    column = rows.column(name)
    values = pa.array([*column.to_pylist()[:-1], value], column.type)
    return rows.set_column(rows.column_names.index(name), name, values)


def types(_: random.Random) -> Iterator[Mutate]:
    for path, name in ((FILES[0], "neurons"), (FILES[2], "runs")):
        for column in table(name).columns:
            other = pa.float64() if column.type == "string" else pa.string()
            yield functools.partial(_rewritten, path, functools.partial(_of_type, column.name, other))


def _of_type(name: str, other: pa.DataType, rows: pa.Table) -> pa.Table:
    values = pa.array([1.0] * len(rows)) if pa.types.is_floating(other) else rows.column(name).cast(other)
    return rows.set_column(rows.column_names.index(name), name, values)


def rows(_: random.Random) -> Iterator[Mutate]:
    for path, keep in itertools.product(FILES[:2], range(5)):
        kept = [index for index in range(6) if index != keep]
        yield functools.partial(_rewritten, path, lambda rows, kept=kept: rows.take(kept))
        yield functools.partial(_rewritten, path, lambda rows, kept=kept: rows.take([*kept, kept[0]]))
        yield functools.partial(_rewritten, path, lambda rows, keep=keep: pa.concat_tables([rows, rows.slice(keep, 1)]))
        # Rows of the other part: each file is sound, and together they hold keys twice.
        yield functools.partial(_rewritten, path, functools.partial(_moved, keep, FILES[:2].index(path)))
    for path in FILES:
        yield functools.partial(_rewritten, path, lambda rows: rows.slice(0, 0))


def _moved(index: int, layer: int, rows: pa.Table) -> pa.Table:
    layers = [layer] * len(rows)
    layers[index] = 1 - layer
    return rows.set_column(rows.column_names.index("layer"), "layer", pa.array(layers, pa.int16()))


KINDS = (
    commit_keys,
    commit_entries,
    paths,
    commit_bytes,
    commit_copies,
    parquet_flips,
    parquet_flips_signed,
    parquet_truncation,
    dropped_columns,
    null_and_nan,
    types,
    rows,
)


def answers(store: Path) -> list[list[tuple]]:
    Store(store).commits()
    with Database(store) as database:
        return [sorted(database.sql(f"from {name}").rows(), key=repr) for name in ("neurons", "runs")]


def answer_or_refusal(ask: Callable[[], object]) -> object:
    """Return what is answered, None where it is refused in one clear line."""
    try:
        return ask()
    except NeuronlakeError as error:
        lines = str(error).splitlines()
    assert len(lines) == 1
    return None


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_mutant_crashes_and_check_sees_each_that_alters_an_answer(kind, sound, tmp_path):
    expected = answers(sound)
    counted = Counter()
    for number, mutate in enumerate(kind(random.Random(0))):
        store = tmp_path / str(number)
        shutil.copytree(sound, store, copy_function=os.link)
        mutate(store)
        found, problems = answer_or_refusal(functools.partial(answers, store)), answer_or_refusal(Store(store).check)
        outcome = "refused" if found is None else "same answers" if found == expected else "other answers"
        counted[outcome, "unseen" if problems == () else "seen"] += 1
    print(f"\n{kind.__name__:22}{counted.total():5}  {dict(counted)}")
    assert counted.total() >= 40
    assert not counted["refused", "unseen"]
    # A flipped bit may make another value of a value; that is all that goes unseen, once its digest is written anew.
    assert not counted["other answers", "unseen"] or kind is parquet_flips_signed


def caches(chance: random.Random) -> Iterator[Callable[[Path], object]]:
    for _ in range(15):
        flip = functools.partial(_flip, "", chance.random(), chance.randrange(1, 256))
        yield flip
        yield functools.partial(_cut, "", chance.random())
        yield lambda path, flip=flip: (flip(path), path.rename(path.with_name(f"{path.name[:16]}.parquet")))
    yield lambda path: (path.unlink(), os.mkfifo(path))
    yield lambda path: (path.unlink(), path.mkdir())
    yield lambda path: (path.unlink(), path.symlink_to("nowhere"))
    yield lambda path: path.rename(path.with_name("x"))


@pytest.mark.long
def test_no_mutant_of_a_kept_view_is_answered_from_and_check_sees_each(sound, tmp_path):
    kept = shutil.copytree(sound, tmp_path / "kept")
    with Store(kept).job("functions", kind="coactivation") as job:
        for name, n in (("neuron_functions", 6), ("run_functions", 1)):
            job.write(name, _rows(name, n=n), model="m", revision="main")
        job.commit()

    def rows(store: Path) -> list[tuple]:
        with Database(store) as database:
            return database.sql("from neuron_scores order by neuron").rows()

    expected = rows(kept)
    assert len(expected) == 6
    with Database(kept) as database:
        (materialized,) = materialize(database, ["neuron_scores"])
    file = materialized.path.relative_to(kept)
    n_mutants = 0
    for number, mutate in enumerate(caches(random.Random(0))):
        store = shutil.copytree(kept, tmp_path / str(number), copy_function=os.link)
        mutate(store / file)
        assert rows(store) == expected
        assert cache.problems(Store(store))
        n_mutants += 1
    assert n_mutants >= 40
