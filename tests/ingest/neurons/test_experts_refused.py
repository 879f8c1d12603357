"""Experts that cannot be read for certain are refused."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

from neuronlake.errors import IngestError
from neuronlake.ingest.activations.capture import capture
from neuronlake.ingest.activations.pooling import Spans
from neuronlake.ingest.neurons.feed_forwards import Layer
from neuronlake.ingest.neurons.layers import find_layers

CONSTANTS = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MIXTRAL = transformers.MixtralConfig(
    **CONSTANTS, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
)  # fmt: skip
SWITCH = transformers.SwitchTransformersConfig(
    **CONSTANTS, d_model=32, d_ff=24, d_kv=8, num_layers=2, num_heads=4, num_sparse_encoder_layers=1, num_experts=4
)
INPUT_IDS = torch.arange(24).reshape(2, 12) * 7 % 41 + 4


def found(module: nn.Module, stack: str) -> tuple[nn.Module, tuple[Layer, ...]]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for name, each in module.named_parameters():
            if "norm" not in name:
                nn.init.normal_(each, std=0.3)
    return module, find_layers(module, module.config, stack=stack, name="tiny")


@pytest.fixture(scope="module")
def mixtral() -> tuple[nn.Module, tuple[Layer, ...]]:
    return found(transformers.AutoModel.from_config(MIXTRAL).eval(), "decoder")


@pytest.fixture(scope="module")
def switch() -> tuple[nn.Module, tuple[Layer, ...]]:
    return found(transformers.AutoModel.from_config(SWITCH).eval().get_encoder(), "encoder")


def read(module: nn.Module, layers: tuple[Layer, ...], router: str = "routed") -> list[Tensor]:
    spans = Spans(np.array([0, 1]), np.array([0, 3]), np.array([12, 5]), (2, 12))
    with torch.inference_mode(), capture(module, layers, router=router) as reading:
        with reading.batch({layers[0].stack: spans}):
            module(input_ids=INPUT_IDS)
        return reading.pooled()


def assert_clean(module: nn.Module) -> None:
    for each in module.modules():
        assert not {"_apply_gate", "act_fn"} & vars(each).keys()
        assert not each._forward_pre_hooks
        assert not each._forward_hooks


@pytest.fixture
def eager_mixtral(mixtral) -> Iterator[tuple[nn.Module, tuple[Layer, ...]]]:
    mixtral[0].set_experts_implementation("eager")
    yield mixtral
    mixtral[0].set_experts_implementation("grouped_mm")


def test_experts_that_run_in_python_are_refused_with_what_can_be_read(eager_mixtral):
    module, layers = eager_mixtral
    with pytest.raises(IngestError, match=r"layers\.0\.mlp\.experts .*'eager'.*grouped_mm and batched_mm can"):
        read(module, layers)
    assert_clean(module)


def reordered(order: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """Return an implementation of experts that is right, but computes its rows in another order."""

    def forward(self: nn.Module, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        n_chosen = index.shape[1]
        expert, token = index.reshape(-1), torch.arange(index.numel()) // n_chosen
        rows = order(expert)
        activations = self._apply_gate(
            torch.stack([self.gate_up_proj[expert[row]] @ hidden[token[row]] for row in rows])
        )
        result = torch.zeros_like(hidden)
        for row, each in zip(rows.tolist(), activations, strict=True):
            result[token[row]] += weights.reshape(-1)[row] * (self.down_proj[expert[row]] @ each)
        return result

    return forward


ORDERS = {
    "experts from the last to the first": lambda expert: torch.sort(expert, descending=True, stable=True).indices,
    "within an expert from the last token to the first": lambda expert: (
        len(expert) - 1 - torch.sort(expert.flip(0), stable=True).indices
    ),
    "as the router chose": lambda expert: torch.arange(len(expert)),
}


@pytest.mark.parametrize("router", ["routed", "blind"])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_rows_in_another_order_are_refused(mixtral, monkeypatch, order, router):
    module, layers = mixtral
    monkeypatch.setitem(ALL_EXPERTS_FUNCTIONS._global_mapping, "grouped_mm", reordered(order))
    with torch.inference_mode():
        module(input_ids=INPUT_IDS)  # it runs; only its rows are not where they were
    with pytest.raises(IngestError, match=r"layers\.0\.mlp\.experts: row \d+ of its experts is not token"):
        read(module, layers, router=router)
    assert_clean(module)


def test_rows_that_are_left_out_are_refused(mixtral, monkeypatch):
    def shorter(self: nn.Module, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        return grouped_mm_experts_forward(self, hidden[:20], index[:20], weights[:20]).repeat(2, 1)[:24]

    module, layers = mixtral
    monkeypatch.setitem(ALL_EXPERTS_FUNCTIONS._global_mapping, "grouped_mm", shorter)
    with pytest.raises(IngestError, match="is not token"):
        read(module, layers)


def test_modules_of_experts_that_run_on_other_tokens_than_were_chosen_are_refused(switch, monkeypatch):
    module, layers = switch
    experts = module.get_submodule(layers[1].experts.path)

    def forward(self: nn.Module, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        return self["expert_0"](hidden) * weights

    monkeypatch.setattr(type(experts), "forward", forward)
    with pytest.raises(IngestError, match=r"mlp\.experts runs expert 0 on 24 rows where its router chose \d+ tokens"):
        read(module, layers)
    assert_clean(module)


def test_nllb_is_refused_for_it_does_not_run_the_experts_its_router_chose():
    # Its experts take the router's mask of zeros and ones for indices of experts.
    config = transformers.NllbMoeConfig(
        **CONSTANTS, d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=24, decoder_ffn_dim=24,
        encoder_attention_heads=4, decoder_attention_heads=4, num_experts=4, encoder_sparse_step=1,
        decoder_sparse_step=1, expert_capacity=64, max_position_embeddings=64,
    )  # fmt: skip
    module = transformers.AutoModel.from_config(config).eval().get_encoder()
    with pytest.raises(IngestError, match="not what its router chose"):
        read(module, find_layers(module, module.config, stack="encoder", name="tiny"))
    assert_clean(module)
