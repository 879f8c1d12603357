"""Feed-forward networks from their definition: weights, activation functions, gates; plain tensor operations only."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .zoo_specs import NetworkSpec

Branches = tuple[Tensor, Tensor | None]
"""What enters the activation function, and the factor of a gated network: [tokens, neurons]."""


def _weights(model: nn.Module, name: str) -> tuple[Tensor, Tensor | None]:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if name in parameters:
        return parameters[name], parameters.get(f"{name}_bias")
    return parameters[f"{name}.weight"], parameters.get(f"{name}.bias")


def linear(model: nn.Module, name: str, x: Tensor) -> Tensor:
    """Return x W' + b of a weight [out, in]."""
    weight, bias = _weights(model, name)
    return x @ weight.T if bias is None else x @ weight.T + bias


def _plain(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    return linear(model, spec.names[0], x), None


def _transposed(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    weight, bias = _weights(model, spec.names[0])
    return x @ weight + bias, None


def _grouped(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    """Each group of neurons reads a share of the hidden state only: weight [neurons, share, 1]."""
    weight, bias = _weights(model, spec.names[0])
    share = weight.shape[1]
    groups = x.shape[1] // share
    rows = len(weight) // groups
    parts = [
        x[:, group * share : (group + 1) * share] @ weight[group * rows : (group + 1) * rows, :, 0].T
        for group in range(groups)
    ]
    return torch.cat(parts, 1) + bias, None


def _gated(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    gate, up = spec.names
    return linear(model, gate, x), linear(model, up, x)


def _fused(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    """One projection: the rows of the gate first."""
    both = linear(model, spec.names[0], x)
    return both[:, : spec.width], both[:, spec.width :]


def _adapted(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    """One projection for all layers, and for each layer two narrow ones that are added to it (Zamba2)."""
    shared, first, second = spec.names
    both = linear(model, shared, x) + linear(model, second, linear(model, first, x))
    return both[:, : spec.width], both[:, spec.width :]


def _shifted(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    """Each token is mixed with the one before it (RWKV); x: [texts, tokens, hidden]."""
    key, mix = spec.names
    share = dict(model.named_parameters())[mix]
    before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
    return linear(model, key, x * share + before * (1 - share)).flatten(0, 1), None


def _experts(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    """Weight [experts, 2 x width, hidden], the rows of the gate first."""
    weight, _ = _weights(model, spec.names[0])
    both = [x @ weight[expert].T for expert in range(spec.n_experts or 1)]
    return torch.cat([b[:, : spec.width] for b in both], 1), torch.cat([b[:, spec.width :] for b in both], 1)


def _experts_transposed(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    """Weight [experts, hidden, 2 x width], the columns of the gate first."""
    weight, bias = _weights(model, spec.names[0])
    both = [x @ expert + (0 if bias is None else bias[index]) for index, expert in enumerate(weight)]
    return torch.cat([b[:, : spec.width] for b in both], 1), torch.cat([b[:, spec.width :] for b in both], 1)


def _experts_interleaved(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    """Weight [experts, hidden, 2 x width], the columns of gate and factor by turns, with a bias (GPT-OSS)."""
    weight, bias = _weights(model, spec.names[0])
    both = [x @ expert + offset for expert, offset in zip(weight, bias, strict=True)]
    return torch.cat([b[:, 0::2] for b in both], 1), torch.cat([b[:, 1::2] for b in both], 1)


def _experts_plain(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    """Weight [experts, width, hidden], not gated (Nemotron-H)."""
    weight, _ = _weights(model, spec.names[0])
    return torch.cat([x @ expert.T for expert in weight], 1), None


def _experts_pair(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    """Gate and factor as two parameters, all experts below each other or stacked (DBRX, Inkling)."""
    gate, up = (_weights(model, name)[0].reshape(-1, x.shape[1]) for name in spec.names)
    return x @ gate.T, x @ up.T


def _expert_modules(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Branches:
    """Each expert is a module of its own (Switch, NLLB)."""
    return torch.cat([linear(model, spec.names[0].format(expert=e), x) for e in range(spec.n_experts or 1)], 1), None


STYLES: dict[str, Callable[[nn.Module, NetworkSpec, Tensor], Branches]] = {
    "plain": _plain,
    "transposed": _transposed,
    "grouped": _grouped,
    "gated": _gated,
    "fused": _fused,
    "adapted": _adapted,
    "shifted": _shifted,
    "experts": _experts,
    "experts transposed": _experts_transposed,
    "experts interleaved": _experts_interleaved,
    "experts plain": _experts_plain,
    "experts pair": _experts_pair,
    "expert modules": _expert_modules,
}


def _gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def _gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x.clamp(min=0),
    "relu2": lambda x: x.clamp(min=0) ** 2,
    "silu": lambda x: x * torch.sigmoid(x),
    "swish": lambda x: x * torch.sigmoid(x),
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_python": _gelu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}

Context = tuple[nn.Module, NetworkSpec, Any, Tensor]
"""Model, network, configuration, input [tokens, hidden]."""
Gate = Callable[[Context, Tensor, Tensor], tuple[Tensor, Tensor]]


def _swiglu_clamped(context: Context, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    limit = context[2].swiglu_limit
    glu = FORMULAS["silu"](gate.clamp(max=limit))
    return glu, glu * up.clamp(-limit, limit)


def _swiglu_oss(context: Context, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    limit, alpha = context[2].swiglu_limit, context[2].swiglu_alpha
    gate = gate.clamp(max=limit)
    glu = gate * torch.sigmoid(alpha * gate)
    return glu, (up.clamp(-limit, limit) + 1) * glu


def _swiglu_softcapped(context: Context, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    def capped(x: Tensor, cap: float) -> Tensor:
        return cap * torch.tanh(x / cap)

    glu = capped(gate, context[2].mlp_gate_softcap) * torch.sigmoid(gate)
    return glu, glu * capped(up, context[2].mlp_up_softcap)


def _normalised(context: Context, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """A norm stands between the neurons and the down projection: what enters that is the neuron (BitNet)."""
    model, spec, config, _ = context
    glu = FORMULAS[config.hidden_act](gate)
    weight = dict(model.named_parameters())[spec.down.replace("down_proj", "ffn_sub_norm.weight")]
    product = glu * up
    return glu, weight * product * torch.rsqrt(product.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps)


def _sparse(config: Any, spec: NetworkSpec, gate: Tensor) -> Tensor:
    """Only the greatest of a token's values enter the nonlinearity, by a cut at a normal quantile (Gemma 3n)."""
    share = config.activation_sparsity_pattern[spec.layer]
    if share == 0:
        return gate
    quantile = math.sqrt(2) * torch.erfinv(torch.tensor(2 * share - 1)).item()
    return (gate - gate.mean(-1, keepdim=True) - quantile * gate.std(-1, keepdim=True, unbiased=False)).clamp(min=0)


def _weighted(context: Context, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """A shared expert's neurons are multiplied by its routing weight before the down projection (Inkling)."""
    model, spec, config, x = context
    router = spec.source + ".gate"
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    logits = x @ parameters[f"{router}.weight"].T
    shared = config.n_shared_experts
    choice = logits[:, :-shared].sigmoid() + buffers[f"{router}.e_score_correction_bias"]
    chosen = choice.topk(config.num_experts_per_tok).indices
    scores = torch.cat([logits[:, :-shared].gather(1, chosen), logits[:, -shared:]], 1).sigmoid()
    scale = config.route_scale * parameters[f"{router}.global_scale"]
    gammas = (scores / scores.sum(1, keepdim=True) * scale)[:, -shared:]
    glu = FORMULAS[config.hidden_act](gate)
    return glu, glu * up * gammas.repeat_interleave(config.moe_intermediate_size, 1)


GATES: dict[str, Gate] = {
    "swiglu clamped": _swiglu_clamped,
    "swiglu oss": _swiglu_oss,
    "swiglu softcapped": _swiglu_softcapped,
    "normalised": _normalised,
    "weighted": _weighted,
}


def _xielu(model: nn.Module, spec: NetworkSpec, x: Tensor) -> Tensor:
    """Two learned slopes, one for each sign (Apertus; Huang and Schlag 2025, arXiv 2411.13010)."""
    where = spec.down.replace("down_proj", "act_fn")
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    beta, eps = buffers[f"{where}.beta"], buffers[f"{where}.eps"]
    positive = functional.softplus(parameters[f"{where}.alpha_p"])
    negative = beta + functional.softplus(parameters[f"{where}.alpha_n"])
    below = torch.expm1(torch.minimum(x, eps)) * negative - x * negative + beta * x
    return torch.where(x > 0, positive * x * x + beta * x, below)


def neurons(model: nn.Module, spec: NetworkSpec, config: Any, x: Tensor) -> dict[str, Tensor]:
    """Return preactivation, activation and, of a gated network, gate: [tokens, neurons] each, for all experts."""
    flat = x.reshape(-1, x.shape[-1])
    before, up = STYLES[spec.declared.style](model, spec, x if spec.declared.style == "shifted" else flat)
    name = spec.declared.activation
    if name == "sparse":
        before, name = _sparse(config, spec, before), config.hidden_activation
    if name in GATES and up is not None:
        gate, after = GATES[name]((model, spec, config, flat), before, up)
        return {"preactivation": before, "gate": gate, "activation": after}
    if name == "xielu":
        return {"preactivation": before, "activation": _xielu(model, spec, before)}
    gate = FORMULAS[getattr(config, name, name)](before)
    if up is None:
        return {"preactivation": before, "activation": gate}
    return {"preactivation": before, "gate": gate, "activation": gate * up}
