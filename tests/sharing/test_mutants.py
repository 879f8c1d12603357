"""300 damaged packs: what was changed at random ends in one line or in a verdict, never in a traceback."""

import json
import random
import shutil
from collections import Counter

import pytest
from serving import serving

from neuronlake.errors import NeuronlakeError
from neuronlake.queries.database import Database
from neuronlake.sharing.pack import pack_store
from neuronlake.sharing.verify import verify_store

pytestmark = [pytest.mark.long, pytest.mark.slow]
VALUES = (
    None,
    True,
    -1,
    0,
    10**30,
    1.5,
    "",
    "x",
    "../../x",
    "data/runs/../x",
    "\0",
    "é" * 300,
    [],
    {},
    [None],
    "0" * 64,
)


def mutated(value, draw):
    """Return JSON with one value, somewhere within, replaced, removed or repeated."""
    if isinstance(value, dict | list) and value and draw.random() < 0.9:
        copy = dict(value) if isinstance(value, dict) else list(value)
        key = draw.choice(list(copy)) if isinstance(copy, dict) else draw.randrange(len(copy))
        match draw.randrange(6):
            case 0:
                del copy[key]
            case 1 if isinstance(copy, list):
                copy.append(copy[key])
            case 1:
                copy[f"{key}_"] = copy[key]
            case _:
                copy[key] = mutated(copy[key], draw)
        return copy
    return draw.choice(VALUES)


def flipped(data, draw):
    """Return bytes with some of them changed, cut off or doubled."""
    place = draw.randrange(len(data))
    match draw.randrange(4):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + data[place // 2 :]
        case _:
            return data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]


@pytest.fixture
def pack(measured, tmp_path):
    return pack_store(measured.path, tmp_path / "pack", where="is_random_init").path


def test_an_index_changed_at_random_opens_or_is_refused_in_one_line(pack):
    draw, messages, n_opened = random.Random(1), [], 0
    index = pack / "commits.json"
    whole = index.read_bytes()
    outside = {path for path in pack.parent.rglob("*") if pack not in path.parents and path != pack}
    with serving(pack) as served:
        for _ in range(200):
            if draw.random() < 0.7:
                index.write_text(json.dumps(mutated(json.loads(whole), draw)))
            else:
                index.write_bytes(flipped(whole, draw))
            try:
                with Database(served.url) as database:
                    database.sql("from specialization").rows()
                n_opened += 1
            except NeuronlakeError as error:
                messages.append(str(error))
    assert len(messages) > 100
    assert not [message for message in messages if "\n" in message]
    assert n_opened + len(messages) == 200
    assert outside == {path for path in pack.parent.rglob("*") if pack not in path.parents and path != pack}


def test_a_commit_or_file_changed_at_random_is_in_the_verdict(pack, tmp_path):
    draw, counts, messages = random.Random(2), Counter(), []
    files = sorted(path for path in pack.rglob("*") if path.is_file() and path.parts[-2] != pack.name)
    for number in range(100):
        copy = shutil.copytree(pack, tmp_path / "copy")
        path = copy / draw.choice(files).relative_to(pack)
        is_commit = path.suffix == ".json"
        changed = json.dumps(mutated(json.loads(path.read_text()), draw)).encode() if is_commit and number % 2 else None
        path.write_bytes(changed or flipped(path.read_bytes(), draw))
        try:
            verdict = verify_store(copy)
            counts["commit" if is_commit else "file", "named" if verdict.problems else "passes"] += 1
        except NeuronlakeError as error:
            messages.append(str(error))
            counts["commit" if is_commit else "file", "refused"] += 1
        shutil.rmtree(copy)
    assert not [message for message in messages if "\n" in message]
    assert counts["file", "passes"] == 0
    assert counts["commit", "passes"] <= 0.2 * sum(n for (what, _), n in counts.items() if what == "commit"), counts
