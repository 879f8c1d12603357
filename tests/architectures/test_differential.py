"""Every text architecture of transformers: read completely and right, or refused for a reason that is written down."""

import pytest
import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from neuronlake.ingest.neurons.layers import find_layers

from . import zoo_brute_force, zoo_configs
from .zoo_verdicts import BUILT_BUT_NOT_RECOMPUTED, verdict, verdicts

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("kind", zoo_configs.KINDS)
def test_widths_that_are_other_sizes_of_a_model_are_told_apart(kind):
    # Half the hidden size, as in OLMoE: gate and up together are as wide as the model. And the rank of attention.
    with zoo_configs.widths(16, 16):
        found = verdict.__wrapped__(kind)
    assert bool(found.refused) == bool(verdict(kind).refused)


# By their papers: what the default configuration does not have, layers, and neurons of the last one.
PUBLISHED = {
    "bert": ({}, 12, 3072),
    "gpt2": ({}, 12, 4 * 768),
    "llama": ({}, 32, 11008),
    "gemma2": ({}, 26, 9216),
    "mixtral": ({}, 32, 8 * 14336),
    "olmoe": ({"intermediate_size": 1024}, 16, 64 * 1024),
    "phimoe": ({}, 32, 16 * 6400),
    "deepseek_v3": ({}, 61, 256 * 2048 + 2048),
    "gpt_oss": ({}, 36, 128 * 2880),
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_models_of_published_sizes_have_their_neurons(kind):
    more, n_layers, n_neurons = PUBLISHED[kind]
    config = CONFIG_MAPPING[kind](**more)
    with torch.device("meta"):  # no memory is used
        model = transformers.AutoModel.from_config(config)
    layers = find_layers(model, config, stack="decoder", name=kind)
    assert (len(layers), layers[-1].n_neurons) == (n_layers, n_neurons)


def test_these_are_refused_and_no_others():
    refused = {kind for kind in zoo_configs.KINDS if verdict(kind).refused}
    assert refused == {
        "dbrx", "inkling_text", "jetmoe", "lilt", "llama4_text", "longcat_flash", "nllb-moe", "reformer", "squeezebert",
    }  # fmt: skip


def test_these_have_the_site_activation_alone():
    kinds = {kind for kind in zoo_configs.KINDS if verdict(kind).sites == ("activation",)}
    assert kinds == {"lfm2", "lfm2_moe", "lfm3", "minimax_m3_vl_text"}


@pytest.mark.parametrize("kind", BUILT_BUT_NOT_RECOMPUTED)
def test_what_no_recomputation_exists_for_is_refused(kind):
    assert kind in zoo_brute_force.REFUSED
    assert verdict(kind).refused


def test_most_architectures_are_verified():
    verified = [each for each in verdicts() if not each.refused]
    assert len({each.class_name for each in verified}) >= 200
    assert len({each.class_name for each in verified if each.n_experts}) >= 50
