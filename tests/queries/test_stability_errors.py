"""Errors of curves of stability, where functions share instances and so the noise of their scores."""

from collections.abc import Callable

import numpy as np
import pytest

from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

pytestmark = pytest.mark.long

N_FAMILIES, N_FUNCTIONS, N_UNITS, N_STEPS = 60, 8, 64, 4


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory, run: Callable[..., None], planted: Callable[..., object]) -> dict:
    """Return estimates, errors and the jackknife's, [families, checkpoints]; of a family all noise but .1 is shared."""
    store = Store(tmp_path_factory.mktemp("shared") / "store")
    generator = np.random.default_rng(0)
    shape = (N_FAMILIES, N_FUNCTIONS, N_UNITS)
    last = generator.normal(size=shape)
    functions = tuple((f"family{i:02}", f"function{j}") for i in range(N_FAMILIES) for j in range(N_FUNCTIONS))
    for step in range(N_STEPS):
        kept = np.clip(generator.normal(0.7, 0.1, (*shape[:2], 1)), -0.99, 0.99)
        signal = kept * last + np.sqrt(1 - kept**2) * generator.normal(size=shape)
        signal = last if step == N_STEPS - 1 else signal
        of_family = generator.normal(size=(2, N_FAMILIES, 1, N_UNITS))
        noise = 0.8 * (np.sqrt(0.9) * of_family + np.sqrt(0.1) * generator.normal(size=(2, *shape)))
        a, b = ((signal + noise).reshape(2, -1, N_UNITS) / 40).transpose(0, 2, 1)
        run(
            store, f"{step:016d}", revision=f"step{step}", step=step, weights=f"w{step}", n_layers=1, n_neurons=N_UNITS,
            functions=functions, prevalence=(0.5,) * len(functions), scores=planted((a + b) / 2, a, b),
        )  # fmt: skip
    query = """
        select family, step, any_value(curves.correlation) as correlation,
            any_value(correlation_error) as correlation_error, any_value(corrected_error) as corrected_error,
            any_value(curves.corrected_correlation) as corrected_correlation,
            stddev_samp(functions.correlation) / sqrt(count(*)) as jackknife_error,
        from stability_curves as curves inner join function_stability as functions using (family, step, reference)
        where reference = 'last'
        group by all order by all
    """
    rows = Database(store).sql(query).pl().fill_null(np.nan)
    return {name: rows[name].to_numpy().reshape(N_FAMILIES, N_STEPS - 1) for name in rows.columns[2:]}


@pytest.mark.parametrize(("estimate", "error"), [("correlation", "correlation_error"),
                                                 ("corrected_correlation", "corrected_error")])  # fmt: skip
def test_errors_are_as_large_as_curves_are_apart_where_functions_share_noise(
    curves: dict[str, np.ndarray], estimate: str, error: str
) -> None:
    off = np.abs(curves[estimate] - np.nanmean(curves[estimate], axis=0))
    # Hardly any is too noisy to correct.
    assert np.isnan(off).mean() < 0.05
    assert 0.8 < np.sqrt(np.nanmean(curves[error] ** 2) / np.nanmean(off**2)) < 1.3
    assert np.nanmean(np.where(np.isnan(off), np.nan, off <= 2 * curves[error])) > 0.85


def test_the_jackknife_alone_is_too_small_where_functions_share_noise(curves: dict[str, np.ndarray]) -> None:
    off = np.abs(curves["correlation"] - curves["correlation"].mean(axis=0))
    assert np.sqrt((curves["jackknife_error"] ** 2).mean() / (off**2).mean()) < 0.85
    assert (curves["correlation_error"] >= curves["jackknife_error"] - 1e-12).all()
