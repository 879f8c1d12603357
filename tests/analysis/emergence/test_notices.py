"""Where no expert can be functional, or hardly one, of layers of known sizes."""

from importlib import resources

import duckdb
import pytest

from neuronlake.analysis.emergence.series import MeasuredCheckpoint, Series
from neuronlake.analysis.emergence.settings import EmergenceSettings
from neuronlake.analysis.emergence.summary import notices
from neuronlake.queries.result import Result
from neuronlake.queries.statements import statement

SERIES = Series(
    model="m",
    corpus="c",
    checkpoints=tuple(MeasuredCheckpoint(f"r{step}", f"step{step}", step, f"{step}", "float32") for step in (0, 1, 2)),
    layers=(("encoder", 0),),
    has_norms=True,
)


class Tables:
    """The tables that hold how many neurons experts and layers have."""

    def __init__(self, layers):
        self.connection = duckdb.connect()
        self.connection.execute(resources.files("neuronlake.queries").joinpath("macros.sql").read_text())
        self.connection.execute("create table layers (run_id text, stack text, layer int, n_neurons int)")
        self.connection.execute(
            "create table emergence_partitions as "
            "select 'e' as emergence_id, 'r2' as run_id, 'cold' as role, 0 as seed, 'p' as partition_id"
        )
        self.connection.execute(
            "create table experts (partition_id text, stack text, layer int, expert int, neuron int)"
        )
        for layer, (n_neurons, sizes) in enumerate(layers):
            self.connection.execute("insert into layers values ('r2', 'encoder', ?, ?)", [layer, n_neurons])
            for expert, size in enumerate(sizes):
                query = "insert into experts select 'p', 'encoder', ?, ?, unnest(range(?))"
                self.connection.execute(query, [layer, expert, size])

    def ask(self, name, **parameters):
        return Result(self.connection.sql(statement(name), params=parameters))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        # 16 choose 2 of 256 choose 2.
        (
            [(256, [16] * 16)],
            ["no expert of encoder layer 0 can be functional: the smallest p is 0.0037 (2 top neurons a function, "
             "16 experts of 16 neurons)"],
        ),
        (
            [(64, [21, 21, 22])] * 2,
            ["no expert of encoder layers 0, 1 can be functional: the smallest p is 0.33 (1 top neuron a function, "
             "3 experts of 21 to 22 neurons)"],
        ),
        # (16 choose 3) / (300 choose 3) is .00013, and two of three are more than one of a thousand.
        ([(300, [15] * 20)], ["an expert of encoder layer 0 is functional only if it holds all of a function's 3 top "
                              "neurons"]),
        ([(400, [8] * 50)], ["an expert of encoder layer 0 is functional only if it holds 3 of a function's 4 top "
                             "neurons"]),
        ([(1024, [16] * 64)], []),
        ([(1024, [512, 512])], ["an expert of encoder layer 0 is functional only if it holds all of a function's 10 "
                                "top neurons"]),
    ],
)  # fmt: skip
def test_where_the_test_can_find_nothing_is_told_of_each_layer(layers, expected):
    settings = EmergenceSettings(n_experts=4)
    assert list(notices(Tables(layers), "e", SERIES, settings)) == expected
