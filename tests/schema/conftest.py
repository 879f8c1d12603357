"""Small tables that conform, and jobs in other processes."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from neuronlake.schema.conformance import arrow_schema
from neuronlake.schema.store import Store
from neuronlake.schema.tables import table


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def experts() -> Callable[..., pa.Table]:
    """Return a function that makes rows of table experts: neurons 0, 1, … of one layer."""

    def make(n: int = 3, *, partition_id: str = "p", layer: int = 0) -> pa.Table:
        rows = [
            {"partition_id": partition_id, "stack": "encoder", "layer": layer, "neuron": neuron, "expert": neuron % 2}
            for neuron in range(n)
        ]
        return pa.Table.from_pylist(rows, schema=arrow_schema(table("experts")))

    return make


@pytest.fixture
def neurons() -> Callable[..., pa.Table]:
    """Return a function that makes rows of table neurons, with the floats given or 0.5."""

    def make(
        n: int = 3, *, run_id: str = "r", model: str = "m", revision: str = "main", **columns: Sequence
    ) -> pa.Table:
        rows = []
        for neuron in range(n):
            row = {"run_id": run_id, "model": model, "revision": revision, "step": None, "native_expert": None}
            row |= {"stack": "encoder", "layer": 0, "neuron": neuron, "n_routed": None}
            row |= dict.fromkeys(("mean", "std", "min", "max", "firing_rate", "input_norm", "output_norm"), 0.5)
            row |= {name: values[neuron] for name, values in columns.items()}
            rows.append(row)
        return pa.Table.from_pylist(rows, schema=arrow_schema(table("neurons")))

    return make


@pytest.fixture
def other_process(store: Store) -> Iterator[Callable[[str], subprocess.Popen]]:
    """Return a function that runs Python lines in another process, with `store` and `rows(partition_id)` at hand."""
    started: list[subprocess.Popen] = []
    repository = Path(__file__).resolve().parents[2]
    setting = f"""
        import sys, time
        import pyarrow as pa
        from neuronlake.errors import StoreError
        from neuronlake.schema import disk
        from neuronlake.schema.conformance import arrow_schema
        from neuronlake.schema.store import Store
        from neuronlake.schema.tables import table

        store = Store({str(store.path)!r})

        def rows(partition_id, n=3):
            columns = [[partition_id] * n, ["encoder"] * n, [0] * n, list(range(n)), [0] * n]
            schema = arrow_schema(table("experts"))
            return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, schema)], schema=schema)
        """

    def start(lines: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(setting) + textwrap.dedent(lines)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(repository / ".src")},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
