"""What is perturbed in place of a source's neurons: as many, of the same layers, of similar energy, never its own."""

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from neuronlake.analysis.perturbation.population import Population, read_population
from neuronlake.queries.database import Database


def make_population(sizes, *, unit_size=1, seed=0):
    """Return layers of some units, whose energies spread over six orders of magnitude."""
    layer = np.repeat(np.arange(len(sizes)), np.multiply(sizes, unit_size))
    neuron = np.concatenate([np.arange(size * unit_size) for size in sizes])
    energy = 10 ** np.random.default_rng(seed).uniform(-3, 3, len(layer))
    neurons = pl.DataFrame({"stack": "encoder", "layer": layer, "neuron": neuron, "mean": 0.0, "std": 1.0})
    return Population(neurons, layer, unit_size, energy)


def layers_of(population, rows):
    return population.layer[rows].tolist()


@given(st.integers(0, 1000), st.lists(st.integers(0, 99), max_size=50, unique=True))
def test_random_neurons_are_those_of_the_pool_in_random_order(seed, pool):
    population = make_population([60, 40])
    rows = np.array(sorted(pool), dtype=np.int64)
    drawn = population.draw_random(rows, seed)
    assert sorted(drawn.tolist()) == sorted(pool)
    assert drawn.tolist() == population.draw_random(rows, seed).tolist()


def test_every_neuron_is_drawn_as_often_as_any_other():
    population = make_population([20])
    first = np.concatenate([population.draw_random(np.arange(20), seed)[:5] for seed in range(2000)])
    counts = np.bincount(first, minlength=20)
    # 500 each are expected, with a standard deviation of 19.
    assert counts.min() > 500 - 5 * 19
    assert counts.max() < 500 + 5 * 19


def test_random_native_experts_are_drawn_whole():
    population = make_population([4, 4], unit_size=3)
    drawn = population.draw_random(np.arange(24), 5).reshape(-1, 3)
    assert (np.diff(drawn, axis=1) == 1).all()
    assert sorted((drawn[:, 0] // 3).tolist()) == list(range(8))
    assert (drawn[:, 0] // 3).tolist() != list(range(8))


@given(st.integers(0, 1000), st.lists(st.integers(0, 99), min_size=1, max_size=40, unique=True))
def test_matched_neurons_are_as_many_others_of_the_same_layers_in_the_same_order(seed, ranked):
    population = make_population([60, 40])
    ranking = np.array(ranked)
    # A layer runs out where more than half of it is ranked.
    assume((np.bincount(population.layer[ranking], minlength=2) <= [30, 20]).all())
    matched = population.draw_matched(ranking, seed)
    assert layers_of(population, matched) == layers_of(population, ranking)
    assert len(set(matched.tolist())) == len(ranked)
    assert not set(matched.tolist()) & set(ranked)
    assert matched.tolist() == population.draw_matched(ranking, seed).tolist()


def test_seeds_draw_other_neurons():
    population = make_population([200])
    ranking = np.arange(10)
    assert len({tuple(population.draw_matched(ranking, seed).tolist()) for seed in range(20)}) == 20
    assert len({tuple(population.draw_random(np.arange(200), seed).tolist()) for seed in range(20)}) == 20


def test_matched_neurons_are_of_like_energy():
    population = make_population([500, 500])
    ranking = np.random.default_rng(1).permutation(1000)[:50]
    own = np.log10(population.energy[ranking])
    matched, random = (
        np.log10(population.energy[np.stack([draw(seed) for seed in range(20)])])
        for draw in (
            lambda seed: population.draw_matched(ranking, seed),
            lambda seed: population.draw_random(np.arange(1000), seed)[:50],
        )
    )
    # Ten of 450 free neurons of a layer span a fortieth of six orders of magnitude.
    assert np.abs(matched - own).max() < 0.5
    assert np.abs(matched - own).mean() < 0.1
    assert np.abs(random - own).mean() > 1
    assert abs((matched - own).mean()) < 0.02


def test_the_neuron_of_most_energy_is_matched_with_those_next_below():
    population = make_population([100])
    order = np.argsort(population.energy)[::-1]
    drawn = {int(population.draw_matched(order[:1], seed)[0]) for seed in range(300)}
    assert drawn == set(order[1:11].tolist())


def test_a_neuron_in_the_middle_is_matched_with_five_on_either_side():
    population = make_population([101])
    order = np.argsort(population.energy)
    drawn = {int(population.draw_matched(order[50:51], seed)[0]) for seed in range(300)}
    assert drawn == set(order[45:50].tolist()) | set(order[51:56].tolist())


def test_matching_ends_where_a_layer_has_no_neuron_left():
    population = make_population([4, 10])
    matched = population.draw_matched(np.array([4, 0, 1, 2, 5]), 0)
    # Layer 0 has one free neuron, for the first of its ranked ones.
    assert layers_of(population, matched) == [1, 0]
    assert matched[1] == 3


def test_matching_all_neurons_yields_none():
    population = make_population([4])
    assert population.draw_matched(np.arange(4), 0).tolist() == []


def test_native_experts_are_matched_whole_by_their_energy():
    population = make_population([30, 30], unit_size=4)
    energy = population.energy.reshape(-1, 4).sum(1)
    order = np.argsort(energy[:30])
    most = int(order[-1])
    drawn = set()
    for seed in range(200):
        matched = population.draw_matched(np.arange(4 * most, 4 * most + 4), seed)
        assert matched.tolist() == list(range(matched[0], matched[0] + 4))
        assert matched[0] % 4 == 0
        drawn.add(int(matched[0]) // 4)
    assert drawn == set(order[-11:-1].tolist())


@pytest.mark.parametrize("kind", ["bert", "t5", "olmoe"])
def test_energy_is_the_mean_square_of_the_activation_times_that_of_the_output_weights(measured_on_sentences, kind):
    with Database(measured_on_sentences(kind)) as database:
        (run_id,) = database.sql("select run_id from runs").pl()["run_id"]
        rows = database.sql("select * from neurons").pl()
        population = read_population(
            database, run_id, stacks=["encoder", "decoder"], layers=None, by_native_expert=False
        )
    expected = {
        (row["stack"], row["layer"], row["neuron"]): (row["mean"] ** 2 + row["std"] ** 2) * row["output_norm"] ** 2
        for row in rows.to_dicts()
    }
    found = population.neurons.select("stack", "layer", "neuron").rows()
    assert found == sorted(expected)
    assert population.energy == pytest.approx([expected[key] for key in found], rel=1e-6)
