"""The views of perturbation studies: q values, and how specific damage is."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from neuronlake.queries.database import Database
from neuronlake.schema.conformance import arrow_schema
from neuronlake.schema.store import Store
from neuronlake.schema.tables import table

STUDIES = ("6" * 16, "7" * 16)
RUN = "a" * 16
Row = dict[str, object]


def conforming(name: str, rows: list[Row]) -> pa.Table:
    """Return rows of a table: what is not given is NULL, or empty or zero where that may not be."""
    blank = {"string": "", "bool": False, "timestamp": 0}
    defaults = {column.name: None if column.nullable else blank.get(column.type, 0) for column in table(name).columns}
    return pa.Table.from_pylist([defaults | row for row in rows], schema=arrow_schema(table(name)))


@pytest.fixture
def studied(store: Store) -> Callable[..., Database]:
    """Return a function that commits a study, given what is not common of its contrasts, and opens the store."""

    def make(*contrasts: Row, cells: tuple[Row, ...] = (), readout: str = "probe") -> Database:
        keys = {"perturbation_id": STUDIES[0], "model": "tiny", "revision": "main", "step": None}
        source = {"source_family": "task", "source_function": "sport", "selection": "functional", "dose": 0.1}
        target = {"target_family": "task", "target_function": "sport"}
        measured = {"control": "random", "n_sets": 1, "n_control_sets": 5, "p_texts": 0.5}
        common = keys | source | target | measured
        rows = [common | row for row in contrasts]
        for row in rows:
            row["is_on_target"] = all(row[f"source_{key}"] == row[f"target_{key}"] for key in ("family", "function"))
        described = {"corpus": "words", "kind": "zero", "scale": 1.0, "readout": readout, "metric": "accuracy"}
        studies = {(row["perturbation_id"], row["model"]): None for row in rows}
        committed = {
            "perturbation_contrasts": rows,
            "perturbation_studies": [
                {
                    **keys,
                    **described,
                    "perturbation_id": study,
                    "model": model,
                    "run_id": RUN,
                    "selection": "functional",
                }
                for study, model in studies
            ],
            "perturbations": [{**keys, **source, **target, **cell} for cell in cells],
        }
        with store.job(STUDIES[0], kind="perturbation") as job:
            for name, content in committed.items():
                if content:
                    job.write(name, conforming(name, content))
            job.commit()
        return Database(store)

    return make


def matrix(differences: np.ndarray, **common: object) -> list[Row]:
    """Return the contrasts of sources with targets [sources, targets], every damage above 1 significant."""
    names = "abcdef"
    return [
        {
            "source_function": names[source],
            "target_function": names[target],
            "difference": float(value),
            "effect": float(value) + 1,
            "control_effect": 1.0,
            "p_texts": 0.001 if value > 1 else 0.9,
            **common,
        }
        for (source, target), value in np.ndenumerate(differences)
    ]


@pytest.mark.parametrize(
    ("p_texts", "p_sets", "p_value"), [(0.01, 0.2, 0.2), (0.3, 0.2, 0.3), (0.01, None, 0.01)], ids=str
)
def test_a_finding_must_hold_for_other_texts_and_for_other_sets(studied, p_texts, p_sets, p_value) -> None:
    row = {"p_texts": p_texts, "p_sets": p_sets, "selectivity": 1.0}
    database = studied(row | {"selectivity_p_texts": p_texts, "selectivity_p_sets": p_sets})
    query = "select p_texts, p_sets, p_value, selectivity_p_value from perturbation_effects"
    assert database.sql(query).rows() == [(p_texts, p_sets, p_value, p_value)]


def test_q_values_are_of_benjamini_and_hochberg_over_sources_targets_and_doses(studied) -> None:
    p_values = [0.001, 0.03, 0.03, 0.04, 0.9, 1, 0.03, 0.002]
    rows = [
        {
            "p_texts": p_value,
            "dose": (0.1, 0.2)[index % 2],
            "source_function": "ab"[index // 2 % 2],
            "target_function": "cd"[index // 4],
        }
        for index, p_value in enumerate(p_values)
    ]
    query = "select p_value, q_value, is_significant from perturbation_effects order by p_value"
    q_values = stats.false_discovery_control(np.sort(p_values)).tolist()
    expected = [(p, pytest.approx(q), q <= 0.05) for p, q in zip(sorted(p_values), q_values, strict=True)]
    assert studied(*rows).sql(query).rows() == expected
    assert {each for *_, each in expected} == {False, True}


@pytest.mark.parametrize(
    "other",
    [{"perturbation_id": STUDIES[1]}, {"selection": "top"}, {"control": "matched"}, {"target_function": "film"}],
    ids=lambda other: next(iter(other)),
)
def test_what_is_tested_apart_is_adjusted_apart(studied, other: Row) -> None:
    rows = [{"p_texts": 0.02}, {"p_texts": 0.04, "dose": 0.2}]
    apart = [{**row, **other, "p_texts": 0.5} for row in rows]
    query = "select p_value, q_value from perturbation_effects order by all"
    assert studied(*rows, *apart).sql(query).rows() == [(0.02, 0.04), (0.04, 0.04), (0.5, 0.5), (0.5, 0.5)]


def test_q_values_of_selectivity_are_over_the_sources_that_are_targets(studied) -> None:
    p_values = [0.001, 0.02, 0.04, 0.3]
    rows = [
        {
            "source_function": name,
            "target_function": name,
            "selectivity": -1.0 if name == "b" else 1.0,
            "selectivity_p_texts": p_value,
        }
        for name, p_value in zip("abcd", p_values, strict=True)
    ]
    off_target = {"source_function": "a", "target_function": "b"}
    query = (
        "select selectivity_p_value, selectivity_q_value, is_selective from perturbation_effects "
        "order by selectivity_p_value"
    )
    q_values = stats.false_discovery_control(p_values).tolist()
    expected = list(zip(p_values, map(pytest.approx, q_values), [True, False, False, False], strict=True))
    assert studied(*rows, off_target).sql(query).rows() == [*expected, (None, None, None)]


def test_effects_say_what_was_perturbed_and_read_out(studied) -> None:
    cells = [
        {"seed": seed, "target_function": target, "n_neurons": n_neurons, "energy_share": share}
        for seed, n_neurons, share in ((0, 10, 0.1), (1, 12, 0.4))
        for target in ("sport", "film")
    ]
    other = {"selection": "random", "seed": 0, "n_neurons": 99, "energy_share": 0.9}
    database = studied({}, cells=(*cells, other, cells[0] | {"dose": 0.2, "n_neurons": 50}))
    query = "select run_id, corpus, kind, scale, readout, metric, n_neurons, energy_share from perturbation_effects"
    expected = (RUN, "words", "zero", 1.0, "probe", "accuracy", 11, pytest.approx(0.25))
    assert database.sql(query).rows() == [expected]


@pytest.mark.parametrize(
    ("readout", "low", "high", "is_negligible"),
    [
        ("probe", 0.0005, 0.0015, True),
        ("probe", -0.019, 0.012, True),
        ("probe", -0.021, 0.001, False),  # not significant, and not known to be negligible either
        ("choice", 0.01, 0.02, False),
        ("loss", -0.04, 0.049, True),
        ("loss", 0.02, 0.06, False),
    ],
)
def test_effects_with_intervals_within_the_margin_are_negligible(studied, readout, low, high, is_negligible) -> None:
    database = studied({"difference_low": low, "difference_high": high, "p_texts": 0.001}, readout=readout)
    query = "select difference_bound, margin, is_negligible, is_significant from perturbation_effects"
    bound = max(abs(low), abs(high))
    assert database.sql(query).rows() == [(bound, 0.05 if readout == "loss" else 0.02, is_negligible, True)]


def test_a_significant_effect_of_a_thousandth_off_target_is_told_as_negligible(studied) -> None:
    rows = [
        {
            "target_function": name,
            "difference": 0.001,
            "difference_low": 0.0005,
            "difference_high": high,
            "p_texts": 0.001,
        }
        for name, high in (("film", 0.0015), ("music", 0.03))
    ]
    query = "select share_off_target_damaged, share_off_target_negligible from perturbation_specificity"
    assert studied(*rows).sql(query).rows() == [(1, 0.5)]


def test_a_selective_study_damages_functions_and_only_those(studied) -> None:
    differences = np.asarray([[5, 0, 0.5], [0.2, 4, 0.2], [3, 0, 2]])
    rows = matrix(differences)
    for row, selectivity in zip(rows[::4], (4.75, 3.8, 0.5), strict=True):
        row |= {"selectivity": selectivity, "selectivity_p_texts": 0.001 if selectivity > 1 else 0.8}
    columns = (
        "n_sources, effect_on_target, control_effect_on_target, difference_on_target, effect_off_target, "
        "difference_off_target, selectivity, n_damaged, n_selective, share_worst_own, share_worst_source, "
        "share_off_target_damaged"
    )
    about = pytest.approx
    # c damages a more than itself; a is damaged most by a, b by b, c by c.
    expected = (3, about(14 / 3), 1, about(11 / 3), about(1.65), about(0.65), about(9.05 / 3), 3, 2, about(2 / 3), 1)
    found = studied(*rows).sql(f"select {columns} from perturbation_specificity").rows()
    assert found == [(*expected, about(1 / 6))]


def test_damage_below_0_is_no_damage(studied) -> None:
    rows = matrix(np.asarray([[-3, -3], [-3, -3]]), p_texts=0.001, selectivity=-1.0, selectivity_p_texts=0.001)
    query = "select n_damaged, n_selective, share_off_target_damaged from perturbation_specificity"
    assert studied(*rows).sql(query).rows() == [(0, 0, 0)]


def test_equal_damage_is_not_the_worst(studied) -> None:
    query = "select share_worst_own, share_worst_source from perturbation_specificity"
    assert studied(*matrix(np.zeros((2, 2)))).sql(query).rows() == [(0, 0)]


def test_a_function_is_compared_at_its_own_dose_and_control(studied) -> None:
    rows = [
        *matrix(np.asarray([[2, 1], [1, 2]])),
        *matrix(np.asarray([[8, 9], [9, 8]]), dose=0.2),
        *matrix(np.asarray([[8, 9], [9, 8]]), control="none"),
    ]
    query = "select dose, control, share_worst_own, share_worst_source from perturbation_specificity order by all"
    assert studied(*rows).sql(query).rows() == [(0.1, "none", 0, 0), (0.1, "random", 1, 1), (0.2, "random", 0, 0)]


def test_controls_and_sources_that_are_no_target_are_not_specific(studied) -> None:
    rows = [
        {"selection": "random", "source_family": "*", "source_function": "*", "control": "none"},
        {"selection": "query", "source_family": "query", "source_function": "mine", "effect": 2.0},
    ]
    query = "select selection, n_sources, effect_on_target, effect_off_target, share_worst_own "
    assert studied(*rows).sql(f"{query} from perturbation_specificity").rows() == [("query", 0, None, 2, None)]


def test_a_single_target_has_nothing_off_target(studied) -> None:
    query = "select difference_on_target, effect_off_target, selectivity, share_worst_own, share_off_target_damaged "
    found = studied({"difference": 2.0}).sql(f"{query} from perturbation_specificity").rows()
    assert found == [(2, None, None, None, None)]


@pytest.mark.parametrize("view", ["perturbation_effects", "perturbation_specificity"])
@pytest.mark.parametrize(("key", "value"), [("perturbation_id", STUDIES[0]), ("model", "tiny")])
def test_a_filter_reaches_the_files(
    studied, filters: Callable[..., list[str]], view: str, key: str, value: str
) -> None:
    study = {"perturbation_id": STUDIES[1], key: "other"}
    database = studied({}, study, cells=({}, study))
    query = f"from {view} where {key} = '{value}'"
    # All three tables: contrasts, studies and perturbations.
    assert filters(database, query, "perturbation_id") == [f"{key} = '{value}'"] * 3
    assert database.sql(f"select count(*) {query}").rows() == [(1,)]
