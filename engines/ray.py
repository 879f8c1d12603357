"""Tasks in worker processes of Ray, on this machine or on the machines of a cluster.

A task whose worker died is done again, elsewhere; what it had staged is in the store, and it goes on from there.
Workers put notes into a queue, which the process that waits for results reads now and then.
"""

import logging
import os
import secrets
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from ..errors import EngineError, NeuronlakeError, one_line
from ..progress import Progress, Shown
from .engine import Work

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_RETRIES = 3  # of a task whose worker died
_ASK_EVERY_S = 0.5
# Of a Ray that is started here: nothing is reported to its makers, it listens on the loopback alone and to who knows
# the token, and a task that is too large for the memory is not tried for ever.
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    _LOOPBACK: "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_oom_retries": str(_RETRIES),
}
_STORE_BYTES = 100 << 20  # memory that workers share: results are small


@dataclass(frozen=True, slots=True)
class RayEngine:
    """Runs tasks in workers of Ray (extra ``ray``). The store must be the same folder on every machine.

    Parameters
    ----------
    workers
        Number of tasks at a time, which share the processors evenly. None: one for each GPU that tasks need, on
        processors one for every four, at least two.
    address
        Address of a running Ray, such as ``auto`` or ``10.0.0.1:6379``; None to start one on this machine, for as long
        as the work takes. A Ray that this process is connected to already is used as it is.

    Raises
    ------
    EngineError
        When it runs: if the package is missing, no Ray is at the address, or it lacks the GPUs that tasks need.

    Examples
    --------
    >>> neuronlake.RayEngine(workers=2).address is None
    True
    """

    workers: int | None = None
    address: str | None = None

    def run(self, work: Work[_Task, _Result], show: Shown) -> Iterator[tuple[int, _Result]]:
        """Do tasks at the same time; yield the place of each and its result as soon as it is known."""
        if not work.tasks:
            return
        with self._connected() as ray, show() as progress:
            yield from _results(ray, work, self._shares(ray, work.device), progress)

    @contextmanager
    def _connected(self) -> Iterator[ModuleType]:
        local: dict[str, Any] = {}
        if self.address is None:
            if "ray" not in sys.modules:  # it reads them once
                for name, value in {**_SETTINGS, "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
                    os.environ.setdefault(name, value)
            n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            local = {"num_cpus": max(self.workers or 0, n_processors), "_node_ip_address": "127.0.0.1"}
            local |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        try:
            import ray
        except ImportError as error:
            if error.name != "ray":
                raise
            raise EngineError("engine ray needs the package ray: pip install 'neuronlake[ray]'") from error

        if ray.is_initialized():
            yield ray
            return
        if local and os.environ.get(_LOOPBACK) != "0":
            raise EngineError("ray is imported already, and would listen on the network: connect it first (ray.init)")
        try:
            ray.init(address=self.address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"no Ray at {self.address}" if self.address else "Ray does not start"
            raise EngineError(f"{where}: {one_line(error)}") from error
        try:
            yield ray
        finally:
            ray.shutdown()

    def _shares(self, ray: ModuleType, device: str) -> dict[str, float]:
        """Return what of the processors and GPUs a task gets."""
        kind, _, number = device.partition(":")
        if number:
            raise EngineError(f"device {device}: Ray deals out the GPUs; with engine ray the device is {kind}")
        by_node = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        n_cpus, n_gpus = (int(sum(node.get(name, 0) for node in by_node)) for name in ("CPU", "GPU"))
        gpus = {"cpu": 0, "auto": min(1, n_gpus), "split": int(max(node.get("GPU", 0) for node in by_node))}
        needed = gpus.get(kind, 1)
        if kind not in ("auto", "cpu") and not 0 < needed <= n_gpus:
            raise EngineError(f"device {device}: Ray has no GPU at {self.address or 'this machine'}")
        workers = self.workers or (n_gpus // needed if needed else max(2, n_cpus // 4))
        # A task runs on one node, beside those that get its other GPUs: more than that has, it would wait for for ever.
        fitting = [(node.get("CPU", 0), node.get("GPU", 0)) for node in by_node if node.get("GPU", 0) >= needed]
        most = max((int(cpus * needed // gpus if needed else cpus) for cpus, gpus in fitting), default=1)
        return {"num_cpus": max(1, min(n_cpus // workers, most)), "num_gpus": needed}


def _results(
    ray: ModuleType, work: Work[_Task, _Result], shares: dict[str, float], progress: Progress
) -> Iterator[tuple[int, _Result]]:
    """Do tasks, each with its shares of the processors and GPUs; yield places and results as they are known."""
    from ray.util.queue import Queue

    board = Queue(actor_options={"num_cpus": 0})
    n_begun, noted = Counter[int](), set[str]()
    do = ray.remote(max_retries=_RETRIES, retry_exceptions=False, **shares)(_do)
    running = {do.remote(work.do, task, place, board): place for place, task in enumerate(work.tasks)}
    progress.phase(work.unit, total=len(work.tasks), unit=work.unit)
    try:
        while running:
            ready, _ = ray.wait(list(running), timeout=_ASK_EVERY_S)
            for place, is_begun, note in board.get_nowait_batch(board.qsize()):
                n_begun[place] += is_begun
                again = ", again: its worker before died" if is_begun and n_begun[place] > 1 else ""
                if is_begun or note not in noted:  # what is true of one task is often true of all
                    progress.note(f"{work.label(work.tasks[place])}: {note}{again}")
                noted.add(note)
            for done in ready:
                place = running.pop(done)
                result = _result(ray, done, work, work.tasks[place])
                progress.advance(1)
                yield place, result
    except KeyboardInterrupt as error:
        error.add_note(f"{len(work.tasks) - len(running)} of {len(work.tasks)} {work.unit} are done")
        raise
    finally:
        for task in running:
            ray.cancel(task, force=True)
        board.shutdown(force=True)


def _result(ray: ModuleType, done: object, work: Work[_Task, _Result], task: _Task) -> _Result:
    """Return the result of a task; raise what it raised for the fault of what was asked."""
    try:
        result: _Result | NeuronlakeError = ray.get(done)
    except (ray.exceptions.RayTaskError, ray.exceptions.TaskCancelledError):
        raise  # an error in our code
    except ray.exceptions.RayError as error:
        reason = f"its worker died {_RETRIES + 1} times: {one_line(error)}"
        if work.lost is None:
            raise EngineError(f"{work.label(task)}: {reason}") from error
        return work.lost(task, reason)
    if isinstance(result, NeuronlakeError):
        raise result
    return result


def _do(do: Callable[[_Task, Progress], _Result], task: _Task, place: int, board: Any) -> _Result | NeuronlakeError:  # noqa: ANN401 - a queue of Ray's
    """Do a task in a worker; an error that is the fault of what was asked is a result: it comes whole, unwrapped."""
    board.put((place, True, f"worker {os.getpid()} on {socket.gethostname()}"))  # known before it can die
    try:
        return do(task, _Reported(place, board))
    except NeuronlakeError as error:
        error.__cause__ = error.__context__ = None  # which may not pickle
        return error


@dataclass(frozen=True, slots=True)
class _Reported(Progress):
    """Passes the notes of a task on to the board."""

    place: int
    board: Any  # a queue of Ray's: place, whether its task begins, and a line

    def note(self, text: str) -> None:
        self.board.put((self.place, False, text))
