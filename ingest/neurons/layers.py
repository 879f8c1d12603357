"""Where an architecture's neurons are, found by structure.

A neuron's activation is what enters the down projection of a feed-forward network: in each block, outside attention
and state-space mixers, a linear layer that leads from a feed-forward width back to the hidden size. The projections
that lead into it, nearest to it, are its inputs; two of them, or one of twice the width, make it gated. In a mixture
of experts a bank of experts stands in its place, or beside it.

Whatever else holds weights in a block must be known to be no feed-forward network; otherwise the model is refused by
name. A part of a model is never measured in silence.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2CLS
from transformers.pytorch_utils import Conv1D

from ...errors import IngestError
from .feed_forwards import FeedForward, Layer, Place, Stack
from .widths import expert_counts, layer_counts, padding_multiple, residual_widths, widths

__all__ = ["find_layers", "is_bank_of_modules", "is_fused_bank"]

_ACTIVATION_KEYS = (
    "hidden_act",
    "hidden_activation",
    "activation_function",
    "dense_act_fn",
    "activation",
    "afn",
    "feed_forward_proj",
    "mlp_hidden_act",
    "ff_activation",
    "dense_act",
)
_UNKNOWN = "unknown"
_ACTIVATIONS = tuple(cast("type", each[0] if isinstance(each, tuple) else each) for each in ACT2CLS.values())
_ACTIVATION_NAME = re.compile(r"gelu|relu|silu|activation", re.IGNORECASE)

# Modules that mix tokens, by the names of their classes, unless the name also says feed-forward or a whole layer.
_MIXER = re.compile(
    r"Attention|Attn|Mixer|Mamba|DeltaNet|Recurrent|ShortConv|SSM|Fourier|LSTM|Convolution|MoA$|Indexer|Sconv"
)
_FEED_FORWARD = re.compile(r"FeedForward|FFN|MLP|Mlp|MoE$|Moe$|Experts|DecoderLayer|EncoderLayer")
# Weights in a block that are of no neuron: norms, routers, the bypasses and rescalings around a feed-forward network.
_AUXILIARY = re.compile(
    r"(^|\.)(\w*norm\w*|router|per_layer_input_gate|per_layer_projection|\w+_hyper_connection|\w+_hc|bottleneck"
    r"|receptance|altup|laurel|adapter_modules|\w+_adapter_list)(\.|$)",
    re.IGNORECASE,
)
# The same, unless they have a feed-forward width: a gate projection may be called gate.
_SMALL = re.compile(r"(^|\.)(gate|wg|shared_expert_gate)(\.|$)|^\.linear\.")
# Weights before and behind the blocks that are of no neuron, beside embeddings.
_OUTSIDE = re.compile(
    r"emb|cls_token|pooler|project|rel_pos|relative|hc_head|hyper_connection|contact_head|altup|norm", re.IGNORECASE
)
# Architectures whose blocks see [tokens, texts, hidden], by model type.
_TIME_FIRST = frozenset({"fsmt", "xlnet"})


@dataclass(frozen=True, slots=True)
class _Linear:
    path: str
    n_inputs: int
    n_outputs: int


def find_layers(
    module: nn.Module, config: PreTrainedConfig, *, stack: Stack, name: str, root: str = ""
) -> tuple[Layer, ...]:
    """Find every feed-forward network of one stack of a model.

    Parameters
    ----------
    module
        The module that is run; paths are relative to it.
    config
        Its text configuration.
    stack
        The stack.
    name
        Name of the model, for errors.
    root
        Where in the module the stack is.

    Raises
    ------
    IngestError
        If not every weight in the blocks can be told to belong to a feed-forward network or not, or if what is found
        is not what the configuration implies; naming the model's class.
    """
    return _Finder(module, config, f"model {name} ({type(module).__name__})").find(stack, root)


def is_fused_bank(module: nn.Module) -> bool:
    """Return whether a module holds its experts in one tensor and runs them through transformers' interface."""
    return hasattr(module, "is_transposed") and isinstance(getattr(module, "down_proj", None), nn.Parameter)


def is_bank_of_modules(module: nn.Module) -> bool:
    """Return whether a module holds its experts as one module each."""
    return isinstance(module, nn.ModuleDict | nn.ModuleList) and "Experts" in type(module).__name__


class _Finder:
    """The search in one model."""

    def __init__(self, module: nn.Module, config: PreTrainedConfig, kind: str) -> None:
        self._module = module
        self._config = config
        self._kind = kind
        self._widths = widths(config)
        self._residuals = residual_widths(config)
        self._activation_function = next(
            (value for key in _ACTIVATION_KEYS if isinstance(value := getattr(config, key, None), str)), _UNKNOWN
        )

    def find(self, stack: Stack, root: str) -> tuple[Layer, ...]:
        blocks = self._blocks(root, layer_counts(self._config, stack))
        found = [self._block(path, index) for index, path in enumerate(blocks)]
        self._check_depth(found, stack)
        layers = [Layer(stack, index, each) for index, each in enumerate(found) if each]
        return tuple(self._count_calls(layers))

    def _blocks(self, root: str, depths: set[int]) -> list[str]:
        """Return the paths of the blocks in the order they run."""
        lists: list[tuple[str, nn.ModuleList]] = []  # the outermost
        modules = self._module.get_submodule(root).named_modules(prefix=root)
        for path, each in sorted(modules, key=lambda item: item[0].count(".")):
            if isinstance(each, nn.ModuleList) and not any(path.startswith(f"{outer}.") for outer, _ in lists):
                lists.append((path, each))
        # Where none holds a feed-forward layer, what its blocks hold will say why.
        chosen = [item for item in lists if self._holds_feed_forwards(item[0])]
        chosen = chosen or [item for item in lists if len(item[1]) in depths][:1]
        if len(chosen) != 1:
            where = ", ".join(path for path, _ in chosen) or "none"
            raise IngestError(
                f"{self._kind}: its feed-forward layers are not one list of blocks (found: {where}), so that layers "
                "cannot be numbered"
            )
        path, blocks = chosen[0]
        self._check_outside(root, path)
        order: Sequence[int] = range(len(blocks))
        n_groups = getattr(self._config, "num_hidden_groups", None)
        if n_groups == len(blocks):  # ALBERT: the layers of a group share its weights
            n_layers = self._config.num_hidden_layers
            order = [layer * n_groups // n_layers for layer in range(n_layers)]
        return [f"{path}.{index}" for index in order]

    def _holds_feed_forwards(self, path: str) -> bool:
        blocks = [f"{path}.{key}" for key, _ in self._module.get_submodule(path).named_children()]
        return any(self._banks(block) or self._dense(block, ()) for block in blocks)

    def _block(self, path: str, index: int) -> tuple[FeedForward, ...]:
        """Return the feed-forward networks of one block, all its other weights accounted for."""
        banks = self._banks(path)
        dense = self._dense(path, tuple(bank.path for bank in banks))
        claimed = [bank.path for bank in banks]
        claimed += [each for network in dense for each in (network.path, *network.input_paths)]
        for name, each in self._module.get_submodule(path).named_modules(prefix=path):
            if _FEED_FORWARD.search(type(each).__name__) and self._is_mixer(name, path):
                raise IngestError(
                    f"{self._kind}: block {index} holds {name} ({type(each).__name__}) inside what mixes tokens"
                )
        for name, weight in self._module.get_submodule(path).named_parameters(prefix=path):
            is_depthwise = weight.ndim == 3 and weight.shape[1] == 1  # a convolution over tokens, channel by channel
            if weight.ndim < 2 or is_depthwise or any(name.startswith(f"{each}.") for each in claimed):
                continue
            if self._is_mixer(name, path) or self._is_auxiliary(name.removeprefix(path), tuple(weight.shape)):
                continue
            raise IngestError(
                f"{self._kind}: block {index} holds {name} {list(weight.shape)}, which is no feed-forward layer that "
                f"can be read, nor known to be none (widths by the configuration: {sorted(self._widths)})"
            )
        self._check_no_numbered_experts(path, index, dense)
        return (*banks, *dense)

    def _check_no_numbered_experts(self, path: str, index: int, dense: list[FeedForward]) -> None:
        """Refuse networks that are numbered and stand beside a router: experts that are not run on every token."""
        alike = Counter(re.sub(r"\.\d+\.", ".#.", network.path.removeprefix(path)) for network in dense)
        counts = expert_counts(self._config)
        routers = [
            name
            for name, weight in self._module.get_submodule(path).named_parameters(prefix=path)
            if re.search(r"\.(router|gate)\.", name) and weight.ndim == 2 and len(weight) in counts
        ]
        if routers and max(alike.values(), default=0) > 1:
            raise IngestError(
                f"{self._kind}: block {index} holds several networks {max(alike, key=alike.__getitem__)} beside the "
                f"router {routers[0]}: experts of a kind that cannot be read"
            )

    def _check_outside(self, root: str, blocks: str) -> None:
        """Refuse weights of a stack outside its blocks that are not known to be no feed-forward layer."""
        top = self._module.get_submodule(root)
        apart = [blocks]  # the blocks, and models of other things, such as images
        for path, each in top.named_modules(prefix=root):
            if isinstance(each, PreTrainedModel) and path != root and not blocks.startswith(f"{path}."):
                apart.append(path)
        for path, each in top.named_modules(prefix=root):
            if isinstance(each, nn.Embedding) or any(f"{path}.".startswith(f"{other}.") for other in apart):
                continue
            for name, weight in each.named_parameters(prefix=path, recurse=False):
                relative = name.removeprefix(f"{root}.") if root else name
                if weight.ndim < 2 or _OUTSIDE.search(relative) or self._is_mixer(f"{root}.{relative}", root):
                    continue
                raise IngestError(
                    f"{self._kind}: outside its blocks {blocks} it holds {name} {list(weight.shape)}, which is not "
                    "known to be no feed-forward layer"
                )

    def _banks(self, path: str) -> list[FeedForward]:
        banks = []
        for name, each in self._module.get_submodule(path).named_modules(prefix=path):
            if is_fused_bank(each):
                n_experts, first, second = each.down_proj.shape
                width = int(first if each.is_transposed else second)
                banks.append(self._network(name, width * n_experts, is_gated=bool(each.has_gate), n_experts=n_experts))
            elif is_bank_of_modules(each):
                holders = [key for key, child in each.named_children() if any(True for _ in child.parameters())]
                members = [self._dense(f"{name}.{key}", ()) for key in holders]
                if not members or not all(len(member) == 1 for member in members):
                    raise IngestError(f"{self._kind}: the experts of {name} are not one feed-forward network each")
                networks = tuple(member[0] for member in members)
                width = networks[0].n_neurons
                bank = self._network(name, width * len(members), is_gated=networks[0].is_gated, n_experts=len(members))
                banks.append(replace(bank, members=networks))
        counts = expert_counts(self._config)
        for bank in banks:
            width = bank.n_neurons // (bank.n_experts or 1)
            if bank.n_experts not in counts or width not in self._widths:
                raise IngestError(
                    f"{self._kind}: {bank.path} holds {bank.n_experts} experts of width {width}; the configuration "
                    f"implies {sorted(counts)} experts of one of the widths {sorted(self._widths)}"
                )
        return banks

    def _dense(self, path: str, banks: tuple[str, ...]) -> list[FeedForward]:
        linears = [
            each
            for each in _linears(self._module.get_submodule(path), path)
            if not any(each.path.startswith(f"{bank}.") for bank in banks)
            and not self._is_mixer(each.path, path)
            and not self._is_auxiliary(each.path.removeprefix(path), (each.n_inputs, each.n_outputs))
        ]
        found: dict[_Linear, FeedForward] = {}
        claimed: set[_Linear] = set()
        # The innermost first, so that a network around others does not take their projections for its own; and the
        # last first, for where all projections are square, the down projection is the one that stands behind.
        for place, down in sorted(enumerate(linears), key=lambda item: (-item[1].path.count("."), -item[0])):
            if down in claimed or down.n_inputs not in self._widths or down.n_outputs not in self._residuals:
                continue
            before = linears[:place] if down.n_inputs == down.n_outputs else linears
            inputs = _inputs([each for each in before if each not in claimed], down, path)
            n_inputs = sum(each.n_outputs for each in inputs) // down.n_inputs
            if n_inputs not in (1, 2):
                continue  # the weights stay unclaimed, and the model is refused by that
            network = self._network(down.path, down.n_inputs, is_gated=n_inputs == 2)
            claimed |= {down, *inputs}
            nonlinearity = self._nonlinearity(inputs[0].path, path)
            paths = tuple(each.path for each in inputs)
            if network.activation_function == _UNKNOWN and nonlinearity is not None:
                name = type(self._module.get_submodule(nonlinearity.path)).__name__
                network = replace(network, activation_function=name)
            found[down] = replace(network, input_paths=paths, nonlinearity=nonlinearity)
        return [found[down] for down in linears if down in found]

    def _is_auxiliary(self, relative: str, shape: tuple[int, ...]) -> bool:
        """Return whether a weight is known to be of no neuron."""
        if _AUXILIARY.search(relative):
            return True
        sizes = {n * width for width in self._widths for n in (1, 2)} - self._residuals - expert_counts(self._config)
        return bool(_SMALL.search(relative)) and sizes.isdisjoint(shape)

    def _network(self, path: str, n_neurons: int, *, is_gated: bool, n_experts: int | None = None) -> FeedForward:
        return FeedForward(
            down=Place(path),
            n_neurons=int(n_neurons),
            n_experts=None if n_experts is None else int(n_experts),
            members=(),
            input_paths=(),
            nonlinearity=None,
            activation_function=self._activation_function,
            is_gated=is_gated,
            is_time_first=self._config.model_type in _TIME_FIRST,
            pads_to=padding_multiple(self._config),
        )

    def _is_mixer(self, path: str, block: str) -> bool:
        """Return whether a weight or module lies in something that mixes tokens."""
        module = self._module.get_submodule(block)
        for part in path.removeprefix(f"{block}.").split("."):
            child = getattr(module, part, None)
            if not isinstance(child, nn.Module):
                return False
            module = child
            name = type(module).__name__
            if _MIXER.search(name) and not _FEED_FORWARD.search(name):
                return True
        return False

    def _nonlinearity(self, start: str, block: str) -> Place | None:
        """Return the activation module that lies nearest to an input projection, None if there is no single one."""
        folder = start
        while len(folder) > len(block):
            folder = folder.rpartition(".")[0]
            found = [
                path
                for path, each in self._module.get_submodule(folder).named_modules(
                    prefix=folder, remove_duplicate=False
                )
                if _is_activation(each) and not self._is_mixer(path, block)
            ]
            if found:
                return Place(found[0]) if len(found) == 1 else None
        return None

    def _check_depth(self, found: list[tuple[FeedForward, ...]], stack: Stack) -> None:
        implied = layer_counts(self._config, stack)
        if len(found) not in implied:
            raise IngestError(
                f"{self._kind}: {len(found)} {stack} blocks found, {' or '.join(map(str, sorted(implied)))} implied by "
                "its configuration"
            )
        if not any(found):
            raise IngestError(f"{self._kind}: no feed-forward layers in its blocks, so it has no neurons to measure")

    def _count_calls(self, layers: list[Layer]) -> Iterator[Layer]:
        """Give the calls of modules that layers share their numbers."""
        places = [place for layer in layers for each in layer.feed_forwards for place in (each.down, each.nonlinearity)]
        n_calls = Counter(self._identity(place) for place in places if place is not None)
        seen: Counter[int] = Counter()

        def numbered(place: Place) -> Place:
            key = self._identity(place)
            seen[key] += 1
            return Place(place.path, seen[key] - 1, n_calls[key])

        for layer in layers:
            networks = tuple(
                replace(
                    each,
                    down=numbered(each.down),
                    nonlinearity=None if each.nonlinearity is None else numbered(each.nonlinearity),
                )
                for each in layer.feed_forwards
            )
            yield replace(layer, feed_forwards=networks)

    def _identity(self, place: Place) -> int:
        return id(self._module.get_submodule(place.path))


def _linears(block: nn.Module, prefix: str) -> Iterator[_Linear]:
    for path, each in block.named_modules(prefix=prefix):
        if isinstance(each, Conv1D):
            n_inputs, n_outputs = each.weight.shape
            yield _Linear(path, n_inputs, n_outputs)
        elif isinstance(each, nn.Linear) or (hasattr(each, "in_features") and hasattr(each, "out_features")):
            yield _Linear(path, int(each.in_features), int(each.out_features))


def _inputs(linears: list[_Linear], down: _Linear, block: str) -> list[_Linear]:
    """Return the projections from the hidden size to the neurons that lie nearest to the down projection."""
    width, folder = down.n_inputs, down.path
    while len(folder) > len(block):
        folder = folder.rpartition(".")[0]
        inputs = [
            each
            for each in linears
            if each.path.startswith(f"{folder}.")
            and each != down
            and each.n_inputs == down.n_outputs
            and each.n_outputs in (width, 2 * width)
        ]
        if inputs:
            return inputs
    return []


def _is_activation(module: nn.Module) -> bool:
    if isinstance(module, _ACTIVATIONS):
        return True
    return not list(module.children()) and bool(_ACTIVATION_NAME.search(type(module).__name__))
