"""Run commands that are killed at chosen steps of what they write, then again to their end: a process of its own.

    python kill_points.py MODEL

Reads a job (name, store, arguments, n_points, folder) a line and prints, as a line of JSON, what became of it. A step
is anything the command is about to do to the disk below its store: open a file to write, rename, make or remove one,
sync one. All of the package is imported once, and every attempt is a fork: nothing of it may have started a thread
before.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_EVENTS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
# Columns that differ between attempts at the same job: times, and what was known before.
_ATTEMPT_COLUMNS = {"started_at", "duration_s", "listed_at", "cell_s", "n_cells_reused"}


class Steps:
    """Counts the steps below a folder, and kills the process before one of them."""

    def __init__(self, folder: Path, kill_at: int | None) -> None:
        self.n = 0
        self._folder, self._kill_at = str(folder), kill_at
        sys.addaudithook(self._on_event)
        sync = os.fsync
        os.fsync = lambda descriptor: (self._step(), sync(descriptor))[1]

    def _on_event(self, event: str, arguments: tuple) -> None:
        is_step = event in _EVENTS or (event == "open" and bool((arguments[2] or 0) & _WRITING))
        if is_step and os.fspath(arguments[0] if isinstance(arguments[0], str | os.PathLike) else "").startswith(
            self._folder
        ):
            self._step()

    def _step(self) -> None:
        self.n += 1
        if self.n == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def run(arguments: list[str]) -> str:
    """Run a command line to its end and return what it printed; raise if it fails."""
    from neuronlake.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments, prog_name="neuronlake")
        except SystemExit as end:
            if end.code:
                output = out.getvalue() + err.getvalue()
                raise RuntimeError(f"neuronlake {' '.join(arguments)}: exit {end.code}\n{output}") from end
    return out.getvalue()


def contents(store: Path) -> dict[str, str]:
    """Return a digest of every committed file, without the columns that differ between attempts."""
    import pyarrow.parquet as pq

    found = {}
    for path in sorted((store / "data").rglob("*.parquet")):
        data = path.read_bytes()
        dropped = _ATTEMPT_COLUMNS & set(pq.read_schema(io.BytesIO(data)).names)
        if dropped:
            rows = pq.read_table(io.BytesIO(data)).drop_columns(sorted(dropped))
            data = repr(rows.to_pylist()).encode()
        found[path.relative_to(store).as_posix()] = hashlib.sha256(data).hexdigest()
    return found


def in_fork(act: Callable[[], object]) -> tuple[int, object]:
    """Call a function in a fork; return how the fork ended (minus the signal that killed it) and what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            try:
                answer, status = act(), 0
            except BaseException as error:  # reported to the parent
                answer = f"{type(error).__name__}: {error}"
            with os.fdopen(writing, "w") as stream:
                json.dump(answer, stream)
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    _, wait_status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(wait_status), json.loads(text) if text else None


def attempt(job: dict, copy: Path, kill_at: int | None) -> dict:
    """Run a job in this process, to be killed at a step or not; return steps, contents and what `check` says."""
    steps = Steps(copy, kill_at)
    run(["--store", str(copy), *job["arguments"]])
    n_steps = steps.n
    from neuronlake.schema.store import Store

    staging = copy / ".staging"
    return {
        "n_steps": n_steps,
        "contents": contents(copy),
        "check": run(["--store", str(copy), "check"]),
        "n_commits": len(Store(copy).commits()),
        "staging": sorted(path.name for path in staging.iterdir()) if staging.exists() else [],
    }


def differences(whole: dict, again: dict) -> list[str]:
    """Return in what a store differs from the one of a job that was not killed."""
    before, after = whole["contents"], again["contents"]
    different = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    found = [f"{path} differs" for path in different]
    names = ("check", "n_commits", "staging")
    return found + [f"{name} is {again[name]}, not {whole[name]}" for name in names if again[name] != whole[name]]


def try_job(job: dict, folder: Path) -> dict:
    """Return what became of a job killed at each of its points and then run again."""

    def fresh(name: str) -> Path:
        return shutil.copytree(job["store"], folder / f"{job['name']}-{name}")

    status, whole = in_fork(lambda: attempt(job, fresh("whole"), None))
    if status:
        return {"error": whole}
    n_steps = whole.pop("n_steps")
    points = random.Random(job["name"]).sample(range(1, n_steps + 1), min(job["n_points"], n_steps))
    problems = []
    for point in sorted(points):
        copy = fresh(str(point))
        status, _ = in_fork(lambda copy=copy, point=point: attempt(job, copy, point))
        if status != -signal.SIGKILL:
            problems.append(f"step {point}: not killed but ended with {status}")
            continue
        status, again = in_fork(lambda copy=copy: attempt(job, copy, None))
        if status:
            problems.append(f"step {point}: {again}")
            continue
        problems += [f"step {point}: {problem}" for problem in differences(whole, again)]
        shutil.rmtree(copy)
    return {"n_steps": n_steps, "points": len(points), "problems": problems}


def warm_up(model: str) -> None:
    """Load a model and the compiled tests of a layer once, which takes longer than most attempts, and no thread."""
    import numpy as np

    from neuronlake.analysis.alignment.layer_tests import layer_test
    from neuronlake.ingest.models.checkpoint import Checkpoint
    from neuronlake.ingest.models.model import load

    load(Checkpoint(model))
    layer_test(np.array([0, 1], np.int32), np.array([[1, 0], [0, 2]], np.int32), n_permutations=1)


def main() -> None:
    """Read jobs, run each and print what became of it."""
    import polars  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    warm_up(sys.argv[1])
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(try_job(job, Path(job["folder"]))), flush=True)


if __name__ == "__main__":
    main()
