"""Which experts a token is sent to, from the router's weights and its definition."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .zoo_specs import NetworkSpec, number


@dataclass(frozen=True, slots=True)
class Routing:
    """What a router decides by: the tokens [texts * tokens, hidden] and what else the model was called with.

    `given` is the attention mask of the stack, if there is one; `decided` is what the model's own router answered.
    """

    model: nn.Module
    spec: NetworkSpec
    config: Any
    tokens: Tensor
    shape: tuple[int, int]
    input_ids: Tensor
    given: Tensor | None = None
    decided: Any = None

    @property
    def logits(self) -> Tensor:
        """Return the scores of all experts [tokens, experts] before softmax or sigmoid."""
        parameters = dict(self.model.named_parameters())
        name = self.spec.routed_by
        logits = self.tokens @ parameters[f"{name}.weight"].T
        return logits + parameters[f"{name}.bias"] if f"{name}.bias" in parameters else logits

    @property
    def bias(self) -> Tensor:
        """Return what is added to the scores for the choice alone [experts]."""
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}[self.spec.bias].flatten()

    @property
    def top_k(self) -> int:
        """Return how many experts a token is sent to."""
        return number(self.spec.declared.top_k, self.config)


def _greatest(scores: Tensor, count: int) -> Tensor:
    """Return a mask of the greatest scores in each row."""
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.topk(count, dim=1).indices, value=True)


def _top(routing: Routing) -> Tensor:
    """Return the greatest logits: the same for softmax and sigmoid, normalised or not."""
    return _greatest(routing.logits, routing.top_k)


def _biased(score: Callable[[Tensor], Tensor]) -> Callable[[Routing], Tensor]:
    """Return a router by score plus a correction that keeps the experts' load even."""
    return lambda routing: _greatest(score(routing.logits) + routing.bias, routing.top_k)


def _limited(scores: Tensor, routing: Routing, best: int) -> Tensor:
    """Choose among the experts of the best groups; a group is as good as the sum of its `best` greatest scores."""
    groups = scores.unflatten(1, (routing.config.n_group, -1))  # [tokens, groups, experts of a group]
    kept = _greatest(groups.topk(best, dim=2).values.sum(2), routing.config.topk_group)
    return _greatest(scores.masked_fill(~kept.repeat_interleave(groups.shape[2], 1), float("-inf")), routing.top_k)


def _grouped(routing: Routing) -> Tensor:
    """DeepSeek-V3: sigmoid plus correction, groups by their two best experts."""
    return _limited(routing.logits.sigmoid() + routing.bias, routing, 2)


def _grouped_softmax(routing: Routing) -> Tensor:
    return _limited(routing.logits.softmax(1), routing, 2)


def _grouped_best(routing: Routing) -> Tensor:
    """DeepSeek-V2: groups by their best expert."""
    return _limited(routing.logits.softmax(1), routing, 1)


def _hashed(routing: Routing) -> Tensor:
    """DeepSeek-V4's first layers: a table says which experts a word of the vocabulary goes to."""
    table = dict(routing.model.named_buffers())[routing.spec.bias]
    chosen = table[routing.input_ids.flatten()]
    return torch.zeros(len(chosen), routing.spec.n_experts or 0, dtype=torch.bool).scatter(1, chosen, value=True)


def _first_come(routing: Routing) -> Tensor:
    """Switch: the best expert, as long as it has room for the text's tokens so far (Fedus et al. 2022)."""
    best = _greatest(routing.logits, 1).unflatten(0, routing.shape)
    return (best & (best.cumsum(1) <= routing.config.expert_capacity)).flatten(0, 1)


def _nllb(routing: Routing) -> Tensor:
    """NLLB as transformers 5.23 computes it: the mask of best experts is read as if it held their numbers.

    So no experts but 0 and 1 are run: 0 on every token, once for each expert it is not sent to, and 1 on every token
    that is sent to some expert, as padding is not.
    """
    chosen = torch.zeros(len(routing.tokens), routing.spec.n_experts or 0, dtype=torch.bool)
    chosen[:, 0] = True
    chosen[:, 1] = True if routing.given is None else routing.given.flatten() == 1
    return chosen


def _past_some(routing: Routing) -> Tensor:
    """LongCat: some of the choices are no experts at all, but let the token pass as it is."""
    return _biased(lambda logits: logits.softmax(1))(routing)[:, : routing.spec.n_experts]


def _beside_shared(routing: Routing) -> Tensor:
    """Inkling: the last scores are those of the shared experts, which nothing chooses."""
    scores = routing.logits[:, : routing.spec.n_experts].sigmoid()
    return _greatest(scores + routing.bias, routing.top_k)


def _module(routing: Routing) -> Tensor:
    """Return what the model's own router decided; weight 0 marks a token that is sent past all experts (Zaya)."""
    _, weights, chosen, *_ = routing.decided
    nowhere = torch.zeros(len(chosen), routing.spec.n_experts or 0)
    return nowhere.scatter_add(1, chosen, weights) > 0


def _normed(routing: Routing) -> Tensor:
    """Gemma 4: the router has a norm and a scale of its own in front (neither changes with the expert)."""
    scale = dict(routing.model.named_parameters())[routing.spec.bias]
    tokens = routing.tokens * torch.rsqrt(routing.tokens.pow(2).mean(1, keepdim=True) + routing.config.rms_norm_eps)
    weight = dict(routing.model.named_parameters())[f"{routing.spec.routed_by}.weight"]
    return _greatest((tokens * scale) @ weight.T, routing.top_k)


ROUTERS: dict[str, Callable[[Routing], Tensor]] = {
    "top": _top,
    "sigmoid": _biased(torch.sigmoid),
    "softmax": _biased(lambda logits: logits.softmax(1)),
    "logits": _biased(lambda logits: logits),
    "root": _biased(lambda logits: functional.softplus(logits).sqrt()),
    "grouped": _grouped,
    "grouped softmax": _grouped_softmax,
    "grouped best": _grouped_best,
    "hashed": _hashed,
    "first come": _first_come,
    "nllb": _nllb,
    "past some": _past_some,
    "normed": _normed,
    "module": _module,
    "sigmoid beside shared": _beside_shared,
}
