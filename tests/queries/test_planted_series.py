"""Series of checkpoints whose truth is planted: when do experts settle, and when do neurons?

The score of a neuron for a function is the component of its expert, plus a component of its own, plus the noise of the
instances it is measured on. Before the step at which a component settles it is drawn anew at every checkpoint; from
then on it is what it will be at the last.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from neuronlake.queries.database import Database
from neuronlake.queries.materialize import materialize
from neuronlake.schema.store import Store

STEPS = tuple(range(0, 11_000, 1000))
N_NEURONS, EXPERT_SIZE = 1024, 8
FUNCTIONS = tuple(("family", f"function {index}") for index in range(8))
EXPERTS, GROUPS = "e" * 16, "f" * 16

# Half the variance of a neuron lies between experts: between .5 and the .89 of experts' means, whose own components
# have averaged out.
THRESHOLD = 0.7


@dataclass(frozen=True)
class Series:
    """What is planted: steps at which components settle, and the standard deviation of a half's noise by step."""

    expert_step: int
    neuron_step: int
    noise: Callable[[int], float]
    is_noise_shared: bool = False


def early_experts() -> Series:
    return Series(expert_step=3000, neuron_step=8000, noise=lambda step: 0.5)


def steady_noise() -> Series:
    return Series(expert_step=4000, neuron_step=4000, noise=lambda step: 1.5)


def lessening_noise() -> Series:
    return Series(expert_step=4000, neuron_step=4000, noise=lambda step: 5.2 - 5 * step / STEPS[-1])


def shared_noise() -> Series:
    return Series(expert_step=4000, neuron_step=4000, noise=lambda step: 1.5, is_noise_shared=True)


def planted_store(
    path: Path, series: Series, run: Callable[..., None], partition: Callable[..., None], planted: Callable[..., object]
) -> Database:
    """Return a store of the series, its experts, and random groups of the same size."""
    store = Store(path)
    generator = np.random.default_rng(0)
    expert = np.arange(N_NEURONS) // EXPERT_SIZE
    shape = (N_NEURONS, len(FUNCTIONS))

    def components() -> tuple[np.ndarray, np.ndarray]:
        return generator.normal(size=(expert.max() + 1, len(FUNCTIONS)))[expert], generator.normal(size=shape)

    last_of_experts, last_of_neurons = components()
    noise_of_instances = generator.normal(size=(2, *shape))
    for step in STEPS:
        of_experts, of_neurons = components()
        of_experts = last_of_experts if step >= series.expert_step else of_experts
        of_neurons = last_of_neurons if step >= series.neuron_step else of_neurons
        noise = noise_of_instances if series.is_noise_shared else generator.normal(size=(2, *shape))
        halves = of_experts + of_neurons + series.noise(step) * noise
        # Rankings lie between 0 and 1.
        half_a, half_b = 0.5 + halves / 40
        run(
            store, f"{step:016d}", revision=f"step{step}", step=step, weights=f"w{step}", n_layers=1,
            n_neurons=N_NEURONS, functions=FUNCTIONS, prevalence=(0.5,) * len(FUNCTIONS),
            scores=planted((half_a + half_b) / 2, half_a, half_b),
        )  # fmt: skip
    partition(store, EXPERTS, expert[None])
    partition(store, GROUPS, generator.permutation(expert)[None], method="random")
    materialize(Database(store), ["stability_curves"])
    return Database(store)


@pytest.fixture(scope="module")
def database_of(
    tmp_path_factory: pytest.TempPathFactory,
    run: Callable[..., None],
    partition: Callable[..., None],
    planted: Callable[..., object],
) -> Callable[[Callable[[], Series]], Database]:
    """Return the function that makes a series, once, and opens it."""
    made: dict[str, Database] = {}

    def make(series: Callable[[], Series]) -> Database:
        name = series.__name__
        if name not in made:
            made[name] = planted_store(tmp_path_factory.mktemp(name) / "store", series(), run, partition, planted)
        return made[name]

    return make


def lasting_steps(database: Database, *, is_corrected: bool) -> Mapping[str, float | None]:
    """Return, by level, the step from which on the curve to the last checkpoint stays at the threshold."""
    query = (
        "select level, lasting_step from stabilization_steps where reference = 'last' and is_corrected = ? "
        "and threshold = ? and (level != 'neuron' or partition_id = '*')"
    )
    return dict(database.sql(query, [is_corrected, THRESHOLD]).rows())


def settles_at(step: int) -> object:
    """Return what equals a step that lies between the checkpoint before this one and this one."""
    return pytest.approx(step - 500, abs=500)


@pytest.mark.parametrize("is_corrected", [False, True])
def test_experts_that_settle_before_their_neurons_are_found(
    database_of: Callable[..., Database], is_corrected: bool
) -> None:
    found = lasting_steps(database_of(early_experts), is_corrected=is_corrected)
    assert found == {"expert": settles_at(3000), "neuron": settles_at(8000), "random_group": settles_at(8000)}


def test_the_curve_to_the_previous_checkpoint_settles_one_checkpoint_later(
    database_of: Callable[..., Database],
) -> None:
    query = (
        "select level, first_step from stabilization_steps where reference = 'previous' and is_corrected "
        "and threshold = ? and partition_id = ?"
    )
    found = dict(database_of(early_experts).sql(query, [THRESHOLD, EXPERTS]).rows())
    assert found == {"expert": settles_at(4000), "neuron": settles_at(9000)}


@pytest.mark.parametrize("series", [steady_noise, lessening_noise])
def test_noise_makes_neurons_look_later_than_experts_until_it_is_corrected_for(
    database_of: Callable[..., Database], series: Callable[[], Series]
) -> None:
    database = database_of(series)
    uncorrected = lasting_steps(database, is_corrected=False)
    assert uncorrected["expert"] == settles_at(4000)
    for level in ("neuron", "random_group"):
        assert uncorrected[level] is None or uncorrected[level] > 6000
    corrected = lasting_steps(database, is_corrected=True)
    assert corrected == {level: settles_at(4000) for level in ("expert", "neuron", "random_group")}


def test_steady_noise_keeps_neurons_below_the_threshold_for_ever_and_lessening_noise_delays_them(
    database_of: Callable[..., Database],
) -> None:
    steady = lasting_steps(database_of(steady_noise), is_corrected=False)
    lessening = lasting_steps(database_of(lessening_noise), is_corrected=False)
    assert (steady["neuron"], steady["random_group"]) == (None, None)
    assert lessening["neuron"] is not None


def test_noise_that_checkpoints_share_is_taken_for_stability_unless_halves_are_crossed(
    database_of: Callable[..., Database],
) -> None:
    query = (
        "select step >= 4000 as is_settled, min(correlation / ceiling), max(correlation / ceiling), "
        "min(corrected_correlation), max(corrected_correlation) from stability_curves "
        "where reference = 'last' and partition_id = '*' group by all order by all"
    )
    before, after = database_of(shared_noise).sql(query).rows()
    # Before: nothing is kept but the noise of the same instances.
    assert before[1] > 0.4
    assert (before[3], before[4]) == pytest.approx((0, 0), abs=0.15)
    # After: the score and its noise are kept, so all is.
    assert after[1] > 1.4
    assert (after[3], after[4]) == pytest.approx((1, 1), abs=0.05)


def test_a_correlation_that_noise_of_its_own_lowers_is_corrected_to_one(database_of: Callable[..., Database]) -> None:
    query = (
        "select level, min(correlation), max(correlation), min(corrected_correlation), max(corrected_correlation) "
        "from stability_curves where reference = 'last' and step >= 4000 and (level != 'neuron' or partition_id = '*') "
        "group by all"
    )
    for level, *found in database_of(steady_noise).sql(query).rows():
        plain = 0.87 if level == "expert" else 0.64
        assert found[:2] == pytest.approx((plain, plain), abs=0.06), level
        assert found[2:] == pytest.approx((1, 1), abs=0.12), level
