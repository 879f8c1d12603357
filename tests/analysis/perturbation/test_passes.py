"""What was read in a cell is kept, and what is not whole is not there."""

import numpy as np
import pytest

from neuronlake.analysis.perturbation.passes import CellValues, earlier_values, known_cells
from neuronlake.analysis.perturbation.settings import PerturbationSettings
from neuronlake.analysis.perturbation.study import study_perturbation
from neuronlake.queries.database import Database

VALUES = np.array([[0.25, np.float32(1) / 3, -1], [0, 1, np.nan]], dtype=np.float32)


def test_values_are_kept_to_the_bit(tmp_path):
    kept = CellValues(tmp_path)
    kept.put("a", VALUES)
    found = CellValues(tmp_path).get("a")
    assert found.dtype == np.float32
    assert found.tobytes() == VALUES.tobytes()
    assert kept.get("b") is None


def test_the_last_values_put_are_kept(tmp_path):
    kept = CellValues(tmp_path)
    kept.put("a", VALUES)
    kept.put("a", VALUES[:1])
    assert kept.get("a").tolist() == VALUES[:1].tolist()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.99])
def test_a_file_cut_short_is_not_there(tmp_path, share):
    kept = CellValues(tmp_path)
    kept.put("a", VALUES)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    assert kept.get("a") is None


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_a_file_with_a_hole_is_not_there(tmp_path, share):
    kept = CellValues(tmp_path)
    kept.put("a", np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32))
    (file,) = tmp_path.iterdir()
    whole = bytearray(file.read_bytes())
    start = int(share * len(whole))
    whole[start : start + 500] = bytes(500)
    file.write_bytes(whole)
    assert kept.get("a") is None


def test_a_file_of_something_else_is_not_there(tmp_path):
    kept = CellValues(tmp_path)
    kept.put("a", VALUES)
    (file,) = tmp_path.iterdir()
    with file.open("wb") as other:
        np.savez(other, other=VALUES)
    assert kept.get("a") is None
    file.write_bytes(b"no zip file at all")
    assert kept.get("a") is None


def test_earlier_values_are_those_of_studies_in_the_store(studied, headed):
    store = studied("bert")
    settings = PerturbationSettings(is_top=True, doses=(0.1,), n_seeds=2, n_bootstrap=20, n_permutations=19)
    study_perturbation(str(headed("bert")), store=store.path, settings=settings, name="tiny-bert")
    with Database(store) as database:
        rows = database.sql("select * from perturbed_instances").pl()
        (baseline_id,) = database.sql("select cell_id from perturbations where selection = 'none' limit 1").pl()[
            "cell_id"
        ]
        cells = database.sql("select distinct cell_id from perturbations").pl()["cell_id"].to_list()
        functions = rows.select("target_family", "target_function").unique().sort("*").rows()
        # Not the order they were read in.
        instances = np.sort(rows["instance_id"].unique().to_numpy())[::-1]
        value = {(row["cell_id"], row["target_family"], row["target_function"], row["instance_id"]): row["value"]
                 for row in rows.to_dicts()}  # fmt: skip

        def values(cell_id):
            return [
                [value.get((cell_id, *name, each), value.get((baseline_id, *name, each), 0)) for each in instances]
                for name in functions
            ]

        baseline = np.array(values(baseline_id), dtype=np.float32)
        assert set(known_cells(database, [*cells, "0"])) == set(cells)
        found = earlier_values(database, [*cells, "0"], baseline, functions, instances)
        assert {cell: each.tolist() for cell, each in found.items()} == {cell: values(cell) for cell in cells}
        # Several of these cells did change something.
        assert len({each.tobytes() for each in found.values()}) > 3
        assert known_cells(database, ["0"]) == earlier_values(database, ["0"], baseline, functions, instances) == {}


def test_values_of_another_version_are_not_taken(studied, headed, monkeypatch):
    store = studied("bert")
    settings = PerturbationSettings(is_top=True, doses=(0.1,), n_seeds=2, n_bootstrap=20, n_permutations=19)
    study_perturbation(str(headed("bert")), store=store.path, settings=settings, name="tiny-bert")
    with Database(store) as database:
        cells = database.sql("select distinct cell_id from perturbations").pl()["cell_id"].to_list()
        assert len(known_cells(database, cells)) == len(cells)
        monkeypatch.setattr("neuronlake.analysis.perturbation.passes.neuronlake_version", lambda: "0.0.0")
        assert known_cells(database, cells) == {}
