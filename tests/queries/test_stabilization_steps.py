"""The steps from which on curves are stable, of curves made by hand."""

from pathlib import Path

import duckdb
import pytest

from neuronlake.queries import catalog

Curve = list[tuple[int, float | None]]


def steps_of(
    curve: Curve, threshold: float, *, errors: list[float | None] | None = None, twins: tuple[int, ...] = ()
) -> dict[str, object]:
    """Return the row of one corrected curve."""
    connection = duckdb.connect()
    connection.execute(catalog.macros())
    connection.execute(
        "create table stability_curves as select 'last' as last_run_id, 'tiny' as model, 'words' as corpus, "
        "'previous' as reference, '*' as partition_id, null::bigint as partition_step, 'neuron' as level, "
        "null::bigint as n_dead, null::varchar as method, 'encoder' as stack, "
        "'one' as family, 0.0::double as correlation, "
        "null::double as correlation_error, unnest(?)::bigint as step, 'step' || step as revision, "
        "unnest(?)::double as corrected_correlation, unnest(?)::double as corrected_error, "
        "unnest(?)::boolean as has_twin",
        [
            [step for step, _ in curve],
            [value for _, value in curve],
            errors or [None] * len(curve),
            [step in twins for step, _ in curve],
        ],
    )
    query = f"from ({catalog.view('stabilization_steps').sql}) where is_corrected and threshold = {threshold}"
    (row,) = connection.execute(query).fetchall()
    return dict(zip([each[0] for each in connection.description], row, strict=True))


@pytest.mark.parametrize(
    ("curve", "threshold", "found"),
    [
        # Between 10 and 20, halfway.
        ([(10, 0.8), (20, 1.0), (30, 1.0)], 0.9, (15, False, 15, False)),
        # Reached at a checkpoint.
        ([(10, 0.0), (20, 0.5), (30, 1.0)], 0.5, (20, False, 20, False)),
        # There from the first checkpoint on.
        ([(10, 0.9), (20, 1.0)], 0.9, (10, True, 10, True)),
        # As with log-spaced steps: high, down, and up again.
        ([(1, 0.99), (2, 0.95), (4, 0.3), (8, 0.5), (16, 0.9)], 0.7, (1, True, 12, False)),
        # Reached, left, reached for good.
        ([(10, 0.0), (20, 1.0), (30, 0.0), (40, 1.0)], 0.5, (15, False, 35, False)),
        # Reached but not at the end.
        ([(10, 0.0), (20, 1.0), (30, 0.5)], 0.8, (18, False, None, False)),
        # Never reached.
        ([(10, 0.1), (20, 0.2)], 0.5, (None, False, None, False)),
        # What is not known before a crossing is not interpolated over.
        ([(10, 0.0), (20, None), (30, 1.0)], 0.5, (30, True, 30, True)),
        ([(10, None), (20, 0.9)], 0.5, (20, True, 20, True)),
        # It is not stability either, whatever is known around it.
        ([(10, 0.0), (20, 1.0), (30, None), (40, 0.9), (50, 1.0)], 0.5, (15, False, 40, True)),
        ([(10, 0.0), (20, None), (30, 0.2), (40, 1.0)], 0.6, (35, False, 35, False)),
        ([(10, 0.0), (20, 1.0), (30, None)], 0.5, (15, False, None, False)),
        ([(10, None)], 0.5, (None, False, None, False)),
    ],
)
def test_a_threshold_is_reached_between_two_checkpoints(
    curve: Curve, threshold: float, found: tuple[float | None, bool, float | None, bool]
) -> None:
    row = steps_of(curve, threshold)
    first, is_censored, lasting, is_lasting_censored = found
    assert (row["first_step"], row["lasting_step"]) == tuple(
        step if step is None else pytest.approx(step) for step in (first, lasting)
    )
    assert (row["is_censored"], row["is_lasting_censored"]) == (is_censored, is_lasting_censored)


def test_the_points_of_a_curve_and_those_with_a_value_are_counted() -> None:
    row = steps_of([(10, 0.0), (20, None), (30, 1.0), (40, 1.0)], 0.5, twins=(40,))
    assert (row["n_checkpoints"], row["n_compared"]) == (2, 3)


def test_the_order_of_rows_does_not_matter_and_twins_do_not_count() -> None:
    row = steps_of([(40, 1.0), (10, 0.0), (30, 0.0), (20, 0.0)], 0.5, twins=(30,))
    assert (row["first_step"], row["lasting_step"]) == (pytest.approx(30), pytest.approx(30))


@pytest.mark.parametrize(
    ("curve", "errors", "band"),
    [
        # Raised by .2 it crosses .6 between 10 and 20, at 18; lowered, between 20 and 30, at 26.
        ([(10, 0.0), (20, 0.5), (30, 1.0), (40, 1.0)], [0.1] * 4, (18, 26)),
        # Each checkpoint has an error of its own.
        ([(10, 0.0), (20, 0.5), (30, 1.0), (40, 1.0)], [0.0, 0.05, 0.3, 0.0], (20, 100 / 3)),
        # Lowered, it ends below; raised, it is there at the first checkpoint.
        ([(10, 0.5), (20, 0.7)], [0.1, 0.1], (10, None)),
        # It needs an error wherever there is a value, and only there.
        ([(10, 0.0), (20, 1.0), (30, 1.0)], [None, 0.1, 0.1], (None, None)),
        ([(10, None), (20, 0.4), (30, 1.0)], [None, 0.0, 0.0], (70 / 3, 70 / 3)),
    ],
)
def test_the_band_is_where_the_raised_and_the_lowered_curve_settle(
    curve: Curve, errors: list[float | None], band: tuple[float | None, float | None]
) -> None:
    row = steps_of(curve, 0.6, errors=errors)
    found = (row["lasting_step_earliest"], row["lasting_step_latest"])
    assert found == tuple(step if step is None else pytest.approx(step) for step in band)


@pytest.mark.parametrize(
    # Steps of 10, 10 (the median of two partitions) and 40: a spread of sqrt(300).
    ("last_step", "found"),
    [(40.0, (3, 20.0, pytest.approx(300**0.5), pytest.approx(43.0))), (None, (3, None, None, None))],
)
def test_the_query_of_the_documentation_summarises_models_as_replicates(
    last_step: float | None, found: tuple[object, ...]
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "emergence.md").read_text(encoding="utf-8")
    (query,) = (part.split("```")[0] for part in text.split("```sql\n")[1:] if "with of_models" in part)
    connection = duckdb.connect()
    connection.execute(
        "create table stabilization_steps as select 'MODEL-' || place as model, 'expert' as level, 'kmeans' as method, "
        "'one' as family, .5 as threshold, 'last' as reference, true as is_corrected, 'ee' as partition_id, "
        "step as lasting_step from (select unnest([0, 1, 1, 2]) as place, unnest(?) as step)",
        [[10.0, 0.0, 20.0, last_step]],
    )
    (row,) = connection.execute(query).fetchall()
    assert row[4:] == found
