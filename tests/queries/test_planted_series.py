"""Series of checkpoints whose truth is planted: when do experts settle, and when do neurons?

The score of a neuron for a function is the component of its expert, plus a component of its own, plus the noise of the
instances it is measured on. Before the step at which a component settles it is drawn anew at every checkpoint; from
then on it is what it will be at the last. In the last two series a checkpoint has a wrong name, and no neuron a signal.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from neuronlake.queries.cache import materialize
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

STEPS = tuple(range(0, 11_000, 1000))
N_NEURONS, EXPERT_SIZE = 1024, 8
FUNCTIONS = tuple(("family", f"function {index}") for index in range(8))
EXPERTS, GROUPS, MATCHED = "e" * 16, "f" * 16, "9" * 16

pytestmark = pytest.mark.long

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

    def halves(self, expert: np.ndarray) -> Iterator[np.ndarray]:
        """Yield, checkpoint by checkpoint, the scores on either half. [2, neurons, functions]."""
        generator = np.random.default_rng(0)
        shape = (N_NEURONS, len(FUNCTIONS))

        def components() -> tuple[np.ndarray, np.ndarray]:
            return generator.normal(size=(expert.max() + 1, len(FUNCTIONS)))[expert], generator.normal(size=shape)

        last_of_experts, last_of_neurons = components()
        noise_of_instances = generator.normal(size=(2, *shape))
        for step in STEPS:
            of_experts, of_neurons = components()
            of_experts = last_of_experts if step >= self.expert_step else of_experts
            of_neurons = last_of_neurons if step >= self.neuron_step else of_neurons
            noise = noise_of_instances if self.is_noise_shared else generator.normal(size=(2, *shape))
            yield of_experts + of_neurons + self.noise(step) * noise


@dataclass(frozen=True)
class FiringRates:
    """No signal: a score is noise, in the better of two directions, larger the more seldom a neuron fires."""

    n_neurons: int = 256
    n_steps: int = 4

    def halves(self) -> Iterator[np.ndarray]:
        """Yield the scores on either half of each checkpoint, neurons by firing rate. [2, neurons, functions]."""
        generator = np.random.default_rng(0)
        size = np.linspace(1, 3, self.n_neurons)[:, None]
        for _ in range(self.n_steps):
            yield np.abs(size * generator.normal(size=(2, self.n_neurons, len(FUNCTIONS))))


def early_experts() -> Series:
    return Series(expert_step=3000, neuron_step=8000, noise=lambda step: 0.5)


def steady_noise() -> Series:
    return Series(expert_step=4000, neuron_step=4000, noise=lambda step: 1.5)


def lessening_noise() -> Series:
    return Series(expert_step=4000, neuron_step=4000, noise=lambda step: 3 - 1.9 * step / STEPS[-1])


def shared_noise() -> Series:
    return Series(expert_step=4000, neuron_step=4000, noise=lambda step: 1.5, is_noise_shared=True)


@pytest.fixture(scope="module")
def planted_store(
    tmp_path_factory: pytest.TempPathFactory,
    run: Callable[..., None],
    partition: Callable[..., None],
    planted: Callable[..., object],
) -> Callable[..., Database]:
    """Return the function that stores the scores of halves, [2, neurons, functions] a checkpoint, and partitions."""

    def make(
        halves: list[np.ndarray], partitions: Mapping[str, tuple[str, np.ndarray]], weights: list[int]
    ) -> Database:
        store = Store(tmp_path_factory.mktemp("planted") / "store")
        for step, scores, named in zip(STEPS, halves, weights, strict=False):
            # Rankings lie between 0 and 1.
            half_a, half_b = 0.5 + scores / 40
            run(
                store, f"{step:016d}", revision=f"step{step}", step=step, weights=f"w{named}", n_layers=1,
                n_neurons=len(half_a), functions=FUNCTIONS, prevalence=(0.5,) * len(FUNCTIONS),
                scores=planted((half_a + half_b) / 2, half_a, half_b),
            )  # fmt: skip
        for partition_id, (method, experts) in partitions.items():
            partition(store, partition_id, experts[None], method=method)
        materialize(Database(store), ["stability_curves"])
        return Database(store)

    return make


EXPERT_OF_NEURON = np.arange(N_NEURONS) // EXPERT_SIZE
PARTITIONS = {
    EXPERTS: ("kmeans", EXPERT_OF_NEURON),
    GROUPS: ("random", np.random.default_rng(1).permutation(EXPERT_OF_NEURON)),
}


@pytest.fixture(scope="module")
def database_of(planted_store: Callable[..., Database]) -> Callable[[Callable[[], Series]], Database]:
    """Return the function that makes a series, once, and opens it."""
    made: dict[str, Database] = {}

    def make(series: Callable[[], Series]) -> Database:
        name = series.__name__
        if name not in made:
            made[name] = planted_store(list(series().halves(EXPERT_OF_NEURON)), PARTITIONS, list(STEPS))
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


def test_a_checkpoint_under_a_wrong_name_does_not_move_the_step(planted_store: Callable[..., Database]) -> None:
    halves = list(early_experts().halves(EXPERT_OF_NEURON))
    weights = list(STEPS)
    # What is called step 5000 is step 1000.
    halves[5], weights[5] = halves[1], weights[1]
    database = planted_store(halves, {EXPERTS: PARTITIONS[EXPERTS]}, weights)
    for is_corrected in (False, True):
        assert lasting_steps(database, is_corrected=is_corrected)["expert"] == settles_at(3000)


def test_without_any_signal_experts_of_a_firing_rate_look_stable_and_so_do_matched_groups_but_no_others(
    planted_store: Callable[..., Database],
) -> None:
    generator = np.random.default_rng(2)
    expert = np.arange(256) // 16
    # Dealt anew among the fifth that has a like rate, as a matched partition is.
    like = np.concatenate([generator.permutation(each) for each in np.array_split(expert, 5)])
    partitions = {
        EXPERTS: ("kmeans", expert),
        MATCHED: ("matched", like),
        GROUPS: ("random", generator.permutation(expert)),
    }
    database = planted_store(list(FiringRates().halves()), partitions, list(STEPS))
    query = (
        "select partition_id, split_half_correlation, corrected_correlation from stability_curves "
        "where reference = 'last' and (level != 'neuron' or partition_id = '*') order by all"
    )
    found: dict[str, list[tuple[float, float | None]]] = {}
    for partition_id, split_half, corrected in database.sql(query).rows():
        found.setdefault(partition_id, []).append((split_half, corrected))
    for partition_id in (EXPERTS, MATCHED):
        assert [corrected for _, corrected in found[partition_id]] == pytest.approx([1] * 3, abs=0.1)
    for partition_id in ("*", GROUPS):
        assert [corrected for _, corrected in found[partition_id]] == [None] * 3


@dataclass(frozen=True)
class DeadNeurons:
    """A quarter of the neurons is dead, more by the last checkpoint; the living are drawn anew at each, or stay."""

    is_stable: bool
    n_neurons: int = 512
    n_steps: int = 4

    def dead(self, checkpoint: int) -> np.ndarray:
        """Return which neurons are dead at a checkpoint. [1, neurons]."""
        order = np.random.default_rng(3).permutation(self.n_neurons)
        return (order < self.n_neurons * (0.26 + 0.03 * checkpoint))[None]

    def halves(self) -> Iterator[np.ndarray]:
        """Yield the scores on either half of each checkpoint: of dead neurons those of chance."""
        generator = np.random.default_rng(0)
        shape = (self.n_neurons, len(FUNCTIONS))
        kept = generator.normal(size=shape)
        for checkpoint in range(self.n_steps):
            signal = kept if self.is_stable else generator.normal(size=shape)
            found = signal + 0.5 * generator.normal(size=(2, *shape))
            yield np.where(self.dead(checkpoint)[0][:, None], 0, found)


def curves_of(store: Store, run: Callable[..., None], partition: Callable[..., None], planted: Callable[..., object],
              series: DeadNeurons, *, is_known: bool = True) -> list[dict]:  # fmt: skip
    """Store a series with signed scores and partitions; return its curves."""
    for checkpoint, (half_a, half_b) in enumerate(each / 10 for each in series.halves()):
        run(
            store, f"{checkpoint:016d}", revision=f"step{checkpoint}", step=checkpoint, weights=f"w{checkpoint}",
            n_layers=1, n_neurons=series.n_neurons, functions=FUNCTIONS, prevalence=(0.5,) * len(FUNCTIONS),
            scores=planted((half_a + half_b) / 2, half_a, half_b), dead=series.dead(checkpoint) if is_known else None,
        )  # fmt: skip
    partition(store, EXPERTS, np.arange(series.n_neurons)[None] // 8)
    query = "from stability_curves where level != 'neuron' or partition_id = '*' order by level, reference, step"
    return [dict(row) for row in Database(store).sql(query)]


def test_dead_neurons_do_not_make_redrawn_ones_look_stable(
    store: Store, run: Callable[..., None], partition: Callable[..., None], planted: Callable[..., object]
) -> None:
    series = DeadNeurons(is_stable=False)
    for curve in curves_of(store, run, partition, planted, series):
        assert abs(curve["correlation"]) < 3 * curve["correlation_error"] + 0.05, curve
        assert abs(curve["corrected_correlation"]) < 3 * curve["corrected_error"] + 0.05, curve
        last = int(curve["reference_step"])
        n_dead = int(series.dead(last).sum()) if curve["reference"] == "last" else int(series.dead(curve["step"]).sum())
        assert curve["n_dead"] == n_dead
        if curve["level"] == "neuron":
            assert curve["n_units"] == series.n_neurons - n_dead
            # What the paper's own curve reads there.
            assert curve["paper_correlation"] > 0.3


def test_living_neurons_that_are_stable_are_found_beside_dead_ones(
    store: Store, run: Callable[..., None], partition: Callable[..., None], planted: Callable[..., object]
) -> None:
    for curve in curves_of(store, run, partition, planted, DeadNeurons(is_stable=True)):
        assert curve["corrected_correlation"] >= 0.9, curve


def test_without_statistics_of_neurons_all_are_compared_and_it_is_not_known_how_many_are_dead(
    store: Store, run: Callable[..., None], partition: Callable[..., None], planted: Callable[..., object]
) -> None:
    series = DeadNeurons(is_stable=False)
    for curve in curves_of(store, run, partition, planted, series, is_known=False):
        assert curve["n_dead"] is None
        if curve["level"] == "neuron":
            assert curve["n_units"] == series.n_neurons


def test_a_neuron_that_turns_from_a_function_to_its_complement_is_not_stable(
    store: Store, run: Callable[..., None], planted: Callable[..., object]
) -> None:
    scores = np.random.default_rng(0).normal(size=(64, 3)) / 10
    for step, sign in enumerate((1, -1)):
        run(
            store, f"{step:016d}", revision=f"step{step}", step=step, weights=f"w{step}", n_layers=1, n_neurons=64,
            functions=FUNCTIONS[:3], prevalence=(0.5,) * 3, scores=planted(*[sign * scores] * 3),
        )  # fmt: skip
    query = "select distinct round(correlation, 6), round(corrected_correlation, 6), round(paper_correlation, 6) "
    assert Database(store).sql(query + "from stability_curves").rows() == [(-1, -1, 1)]
