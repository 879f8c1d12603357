"""Where an architecture's neurons are: a search by structure.

A neuron's activation is the input of the down projection of a feed-forward network: in each block, outside attention
and state-space mixers, the linear layer from a feed-forward width back to the hidden size. The projections nearest to
it that lead into it are its inputs; two of them, or one of twice the width, make it gated. In a mixture of experts a
module of experts stands in its place, or beside it.

Every other weight in a block must be known to be outside feed-forward networks; otherwise the model is refused, and the
weight named. What is found is compared with the numbers that the configuration implies, in whatever words. A part of a
model is never measured in silence.
"""

import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2CLS
from transformers.pytorch_utils import Conv1D

from ...errors import IngestError
from .experts import is_fused_experts, is_list_of_experts
from .feed_forwards import FeedForward, Layer, Place, Stack

_NAMES = tomllib.loads(Path(__file__).with_name("names.toml").read_text(encoding="utf-8"))
_CALLED, _PARTS = _NAMES["configuration"], {name: re.compile(of, re.VERBOSE) for name, of in _NAMES["parts"].items()}
_ACTIVATIONS = tuple(cast("type", kind[0] if isinstance(kind, tuple) else kind) for kind in ACT2CLS.values())
_TIME_FIRST = frozenset({"fsmt", "xlnet"})  # architectures whose blocks see [tokens, texts, hidden], by model type


class _Linear(NamedTuple):
    path: str
    n_inputs: int
    n_outputs: int


def find_layers(
    module: nn.Module, config: PreTrainedConfig, *, stack: Stack, name: str, root: str = ""
) -> tuple[Layer, ...]:
    """Return the blocks of one stack of a model that have neurons, from the embeddings on.

    `module` is run, and paths are relative to it; `root` is the path of the stack in it, `config` the text
    configuration, `name` the model's name for errors.
    """
    return _Finder(module, config, f"model {name} ({type(module).__name__})").find(stack, root)


class _Finder:
    def __init__(self, module: nn.Module, config: PreTrainedConfig, label: str) -> None:
        self._module = module
        self._config = config
        self._label = label
        self._widths = widths(config)
        # Of the hidden states that blocks read and write; MobileBERT's are narrower within blocks.
        self._residuals = {int(config.hidden_size), *_numbers(config, ("true_hidden_size",))}
        self._expert_counts = expert_counts(config)
        self._mixers = {
            path
            for path, part in module.named_modules(remove_duplicate=False)
            if _PARTS["mixer"].search(type(part).__name__) and not _PARTS["feed_forward"].search(type(part).__name__)
        }

    def find(self, stack: Stack, root: str) -> tuple[Layer, ...]:
        is_second = stack == "decoder" and self._config.is_encoder_decoder
        depths = set(_numbers(self._config, _CALLED["decoder_layers" if is_second else "encoder_layers"])[:1])
        blocks = [self._block(path, index) for index, path in enumerate(self._blocks(root, depths))]
        if len(blocks) not in depths:
            problem = f"{self._label}: {len(blocks)} {stack} blocks found"
            raise IngestError(f"{problem}, {' or '.join(map(str, sorted(depths)))} implied by its configuration")
        if not any(blocks):
            raise IngestError(f"{self._label}: no feed-forward layers in its blocks, so it has no neurons to measure")
        return self._count_calls([Layer(stack, index, networks) for index, networks in enumerate(blocks) if networks])

    def _modules(self, path: str, *, remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        yield from self._module.get_submodule(path).named_modules(prefix=path, remove_duplicate=remove_duplicate)

    def _weights(self, path: str) -> Iterator[tuple[str, nn.Parameter]]:
        return self._module.get_submodule(path).named_parameters(prefix=path)

    def _blocks(self, root: str, depths: set[int]) -> list[str]:
        """Return the paths of the blocks in the order they run."""
        blocks: dict[str, list[str]] = {}  # by the path of their list of modules, an outermost one
        for path, module in sorted(self._modules(root), key=lambda item: item[0].count(".")):
            if isinstance(module, nn.ModuleList) and not _is_within(path, blocks):
                blocks[path] = [f"{path}.{index}" for index in range(len(module))]
        holding = (path for path, some in blocks.items() if any(self._experts(one) or self._dense(one) for one in some))
        # Where none holds a feed-forward layer, what its blocks hold will say why.
        chosen = list(holding) or [path for path in blocks if len(blocks[path]) in depths][:1]
        if len(chosen) != 1:
            problem = f"its feed-forward layers are not one list of blocks (found: {', '.join(chosen) or 'none'})"
            raise IngestError(f"{self._label}: {problem}, so that layers cannot be numbered")
        (path,) = chosen
        self._check_outside(root, path)
        n_groups = getattr(self._config, "num_hidden_groups", None)
        if n_groups != len(blocks[path]):
            return blocks[path]
        n_layers = self._config.num_hidden_layers  # ALBERT: the layers of a group share its weights
        return [blocks[path][layer * n_groups // n_layers] for layer in range(n_layers)]

    def _block(self, path: str, index: int) -> tuple[FeedForward, ...]:
        """Return the feed-forward networks of one block, all its other weights accounted for."""
        experts = self._experts(path)
        dense = self._dense(path, [network.path for network in experts])
        networks = (*experts, *dense)
        claimed = [place for network in networks for place in (network.path, *network.input_paths)]
        for name, module in self._modules(path):
            if _PARTS["feed_forward"].search(type(module).__name__) and self._is_mixer(name, path):
                held = f"{name} ({type(module).__name__}) inside what mixes tokens"
                raise IngestError(f"{self._label}: block {index} holds {held}")
        for name, weight in self._weights(path):
            is_depthwise = weight.ndim == 3 and weight.shape[1] == 1  # a convolution over tokens, channel by channel
            is_known = weight.ndim < 2 or is_depthwise or _is_within(name, claimed) or self._is_mixer(name, path)
            if not is_known and not self._is_auxiliary(name.removeprefix(path), weight.shape):
                held = f"{name} {list(weight.shape)}, which is no feed-forward layer that can be read"
                implied = f"widths by the configuration: {sorted(self._widths)}"
                raise IngestError(f"{self._label}: block {index} holds {held}, nor known to be none ({implied})")
        self._check_no_numbered_experts(path, index, dense)
        return networks

    def _check_no_numbered_experts(self, path: str, index: int, dense: list[FeedForward]) -> None:
        """Refuse networks that are numbered and stand beside a router: experts that are not run on every token."""
        alike = Counter(re.sub(r"\.\d+\.", ".#.", network.path.removeprefix(path)) for network in dense)
        routers = [
            name
            for name, weight in self._weights(path)
            if re.search(r"\.(router|gate)\.", name) and weight.ndim == 2 and len(weight) in self._expert_counts
        ]
        if routers and max(alike.values(), default=0) > 1:
            held = f"several networks {max(alike, key=alike.__getitem__)} beside the router {routers[0]}"
            raise IngestError(f"{self._label}: block {index} holds {held}: experts of a kind that cannot be read")

    def _check_outside(self, root: str, blocks: str) -> None:
        """Refuse weights of a stack outside its blocks that are not known to be no feed-forward layer."""
        models = [path for path, module in self._modules(root) if isinstance(module, PreTrainedModel) and path != root]
        # The blocks, and models of other things, such as images
        apart = [blocks, *(path for path in models if not _is_within(blocks, [path]))]
        for name, weight in self._module.get_submodule(root).named_parameters(prefix=root, remove_duplicate=False):
            holder = self._module.get_submodule(name.rpartition(".")[0])
            is_known = weight.ndim < 2 or isinstance(holder, nn.Embedding) or _is_within(name, apart)
            if not (is_known or _PARTS["outside"].search(name.removeprefix(f"{root}.")) or self._is_mixer(name, root)):
                problem = f"{self._label}: outside its blocks {blocks} it holds {name} {list(weight.shape)}"
                raise IngestError(f"{problem}, which is not known to be no feed-forward layer")

    def _experts(self, path: str) -> list[FeedForward]:
        experts = []
        for name, module in self._modules(path):
            members: tuple[FeedForward, ...] = ()
            if is_fused_experts(module):
                n_experts, first, second = module.down_proj.shape
                width, is_gated = int(first if module.is_transposed else second), bool(module.has_gate)
            elif is_list_of_experts(module):
                keys = [key for key, child in module.named_children() if any(True for _ in child.parameters())]
                networks = [self._dense(f"{name}.{key}") for key in keys]
                if {len(network) for network in networks} != {1}:
                    raise IngestError(f"{self._label}: the experts of {name} are not one feed-forward network each")
                members = tuple(network for (network,) in networks)
                n_experts, width, is_gated = len(members), members[0].n_neurons, members[0].is_gated
            else:
                continue
            if n_experts not in self._expert_counts or width not in self._widths:
                implied = f"{sorted(self._expert_counts)} experts of one of the widths {sorted(self._widths)}"
                held = f"{name} holds {n_experts} experts of width {width}"
                raise IngestError(f"{self._label}: {held}; the configuration implies {implied}")
            network = self._network(name, width * n_experts, is_gated=is_gated, n_experts=n_experts, members=members)
            experts.append(network)
        return experts

    def _dense(self, path: str, experts: Iterable[str] = ()) -> list[FeedForward]:
        """Return the networks of a block outside its experts."""
        linears = [
            linear
            for linear in _linears(self._modules(path))
            if not _is_within(linear.path, experts)
            and not self._is_mixer(linear.path, path)
            and not self._is_auxiliary(linear.path.removeprefix(path), linear[1:])
        ]
        networks: dict[_Linear, FeedForward] = {}
        claimed: set[_Linear] = set()
        # The innermost first, so that a network around others does not take their projections for its own; and the
        # last first, for where all projections are square, the down projection is the one that stands behind.
        for place, down in sorted(enumerate(linears), key=lambda item: (-item[1].path.count("."), -item[0])):
            if down in claimed or down.n_inputs not in self._widths or down.n_outputs not in self._residuals:
                continue
            before = linears[:place] if down.n_inputs == down.n_outputs else linears
            inputs = _inputs([linear for linear in before if linear not in claimed], down, path)
            n_inputs = sum(linear.n_outputs for linear in inputs) // down.n_inputs
            if n_inputs not in (1, 2):
                continue  # the weights stay unclaimed, and the model is refused by that
            claimed |= {down, *inputs}
            paths, nonlinearity = tuple(linear.path for linear in inputs), self._nonlinearity(inputs[0].path, path)
            networks[down] = self._network(
                down.path, down.n_inputs, is_gated=n_inputs == 2, input_paths=paths, nonlinearity=nonlinearity
            )
        return [networks[down] for down in linears if down in networks]

    def _is_auxiliary(self, relative: str, shape: Iterable[int]) -> bool:
        """Return whether a weight is known to be of no neuron."""
        if _PARTS["auxiliary"].search(relative):
            return True
        sizes = {n * width for width in self._widths for n in (1, 2)} - self._residuals - self._expert_counts
        return bool(_PARTS["small"].search(relative)) and sizes.isdisjoint(shape)

    def _network(self, path: str, n_neurons: int, *, nonlinearity: Place | None = None, **more: Any) -> FeedForward:  # noqa: ANN401 - fields
        names = (getattr(self._config, key, None) for key in _CALLED["activation_functions"])
        named = next((name for name in names if isinstance(name, str)), None)
        of_module = type(self._module.get_submodule(nonlinearity.path)).__name__ if nonlinearity else "unknown"
        return FeedForward(
            down=Place(path),
            n_neurons=n_neurons,
            activation_function=named or of_module,
            nonlinearity=nonlinearity,
            **more,
            is_time_first=self._config.model_type in _TIME_FIRST,
            pads_to=max(_numbers(self._config, ("attention_window",)), default=0),
        )

    def _is_mixer(self, path: str, block: str) -> bool:
        """Return whether a weight or module lies in something that mixes tokens, which lies within the block."""
        return any(place in self._mixers and place != block for place in (path, *_folders(path, block)))

    def _nonlinearity(self, start: str, block: str) -> Place | None:
        """Return the activation module that lies nearest to an input projection, None if there is no single one."""
        for folder in _folders(start, block):
            modules = self._modules(folder, remove_duplicate=False)
            paths = [path for path, module in modules if _is_activation(module) and not self._is_mixer(path, block)]
            if paths:
                return Place(paths[0]) if len(paths) == 1 else None
        return None

    def _count_calls(self, layers: list[Layer]) -> tuple[Layer, ...]:
        """Give the calls of modules that layers share their numbers."""
        networks = [network for layer in layers for network in layer.feed_forwards]
        places = [place for network in networks for place in (network.down, network.nonlinearity) if place is not None]
        n_calls = Counter(self._module.get_submodule(place.path) for place in places)
        calls = {module: itertools.count() for module in n_calls}

        def numbered(place: Place) -> Place:
            module = self._module.get_submodule(place.path)
            return Place(place.path, next(calls[module]), n_calls[module])

        def with_calls(network: FeedForward) -> FeedForward:
            nonlinearity = network.nonlinearity and numbered(network.nonlinearity)
            return replace(network, down=numbered(network.down), nonlinearity=nonlinearity)

        return tuple(replace(layer, feed_forwards=tuple(map(with_calls, layer.feed_forwards))) for layer in layers)


def _linears(modules: Iterator[tuple[str, Any]]) -> Iterator[_Linear]:
    for path, module in modules:
        if isinstance(module, Conv1D):
            yield _Linear(path, *module.weight.shape)
        elif hasattr(module, "in_features") and hasattr(module, "out_features"):  # also of quantised weights
            yield _Linear(path, int(module.in_features), int(module.out_features))


def _inputs(linears: list[_Linear], down: _Linear, block: str) -> list[_Linear]:
    """Return the projections from the hidden size to the neurons that lie nearest to the down projection."""
    sizes = [(down.n_outputs, n * down.n_inputs) for n in (1, 2)]
    inputs = [linear for linear in linears if linear != down and (linear.n_inputs, linear.n_outputs) in sizes]
    near = ([linear for linear in inputs if _is_within(linear.path, [path])] for path in _folders(down.path, block))
    return next(filter(None, near), [])


def _folders(path: str, block: str) -> Iterator[str]:
    """Yield the paths of the modules around a module, from the innermost to its block."""
    while len(path) > len(block):
        path = path.rpartition(".")[0]
        yield path


def _is_within(path: str, outer: Iterable[str]) -> bool:
    return any(path.startswith(f"{module}.") for module in outer)


def _is_activation(module: nn.Module) -> bool:
    is_named_so = not list(module.children()) and _PARTS["activation"].search(type(module).__name__) is not None
    return isinstance(module, _ACTIVATIONS) or is_named_so


def widths(config: PreTrainedConfig) -> set[int]:
    """Return the widths, in neurons, that a feed-forward network or one expert may have."""
    sizes, hidden = set(_numbers(config, _CALLED["widths"])), int(config.hidden_size)
    # Several shared experts are one network of their summed width.
    sizes |= {width * n for width in sizes for n in _numbers(config, _CALLED["shared_experts"])}
    sizes |= {int(multiple * hidden) for multiple in _values(config, _CALLED["width_multiples"])} | _derived(config)
    return sizes or {4 * hidden}  # where nothing is said, as in the GPT-2 family


def expert_counts(config: PreTrainedConfig) -> set[int]:
    """Return the numbers of routed experts a layer may have."""
    return set(_numbers(config, _CALLED["experts"]))


def _derived(config: PreTrainedConfig) -> set[int]:
    """Return the width where an architecture computes it from what its configuration says."""
    match config.model_type:
        case "recurrent_gemma":
            return {config.intermediate_size // 2}
        case "lfm2" | "lfm2_moe" if getattr(config, "block_auto_adjust_ff_dim", False):
            width = int(config.block_ffn_dim_multiplier * int(2 * config.intermediate_size / 3))
            return {config.block_multiple_of * -(-width // config.block_multiple_of)}
        case "xlstm":
            multiple = config.ffn_round_up_to_multiple_of
            return {int(-(-config.ffn_proj_factor * config.hidden_size // multiple) * multiple)}
    return set()


def _numbers(config: PreTrainedConfig, names: Iterable[str]) -> list[int]:
    return [value for value in _values(config, names) if isinstance(value, int) and value > 0]


def _values(config: PreTrainedConfig, names: Iterable[str]) -> list[Any]:
    """Return the attributes of these names that are set; a list, one value a layer, is flattened."""
    set_so = (getattr(config, name, None) for name in names)
    values = [one for value in set_so for one in (value if isinstance(value, list | tuple) else [value])]
    return [value for value in values if value is not None and not isinstance(value, bool)]
