"""Every text architecture of transformers: read completely and right, or refused for a reason that is written down."""

import pytest
import torch
import zoo_brute_force
import zoo_configs
from zoo_verdicts import BUILT_BUT_NOT_RECOMPUTED, verdict, verdicts


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", zoo_configs.KINDS)
def test_every_neuron_is_what_the_weights_make_of_its_input(kind):
    found = verdict(kind)  # compares
    assert bool(found.refused) != bool(found.layers)


@pytest.mark.parametrize("kind", BUILT_BUT_NOT_RECOMPUTED)
def test_what_no_recomputation_exists_for_is_refused(kind):
    assert kind in zoo_brute_force.REFUSED
    assert verdict(kind).refused


def test_most_architectures_are_verified():
    verified = [each for each in verdicts() if not each.refused]
    assert len({each.class_name for each in verified}) >= 200
    assert len({each.class_name for each in verified if each.n_experts}) >= 50
