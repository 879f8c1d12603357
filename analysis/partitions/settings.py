"""What defines a partition, beside the model."""

from dataclasses import dataclass, fields

from ...errors import AnalysisError, check_settings
from ...schema.vocabulary import Half, Method, WeightKind

# The settings that each way to partition takes, beside layers.
_TAKES: dict[str, tuple[str, ...]] = {
    "kmeans": ("n_experts", "features", "query", "warm_start", "n_starts", "normalize", "seed"),
    "kmeans of a query": ("n_experts", "query", "run", "warm_start", "n_starts", "normalize", "seed"),
    "coactivation": ("n_experts", "run", "activity", "n_starts", "seed"),
    "function": ("n_experts", "run", "half", "warm_start", "n_starts", "normalize", "seed"),
    "random": ("n_experts", "run", "matched", "seed"),
    "matched random": ("run", "matched", "seed"),
    "native": ("run",),
}

_N_STARTS = 4
_STORED_ELSEWHERE = ("n_experts", "query", "run", "seed", "half", "matched", "warm_start")


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """What defines a partition, beside the model.

    Parameters
    ----------
    method, n_experts
        How neurons are grouped, and how many experts a layer has; None where method native or `matched` gives them.
    layers
        Layers to partition; None for all.
    features
        kmeans: which weights of a neuron are its vector.
    query
        kmeans: SQL whose rows are clustered in place of weights. Its columns are stack, layer, neuron, and features:
        all other columns, numbers or lists of numbers.
    run
        Beginning of the id of the run whose scores or activations are used; None for the model's only one.
    half
        function: the instances that scores are of.
    matched
        random: beginning of the id of a partition, whose experts are permuted among neurons in the same bins of input
        norm and firing rate.
    activity
        coactivation: when a neuron counts as active, as stored; None for the only one there is.
    seed
        Each layer has a seed derived from it, so that a layer's experts do not depend on the other layers.
    warm_start
        kmeans, function: beginning of the id of a partition of the same neurons of this model, at any revision. Experts
        start as the means of its experts, so that expert i continues its expert i.
    n_starts
        kmeans, function, coactivation: starts, of which the best is kept; a warm start is one.
    normalize
        kmeans, function: whether vectors are scaled to unit length.

    Raises
    ------
    UnknownNameError, AnalysisError
        If a choice is none of those there are; if a value is out of range, missing, or means nothing to the method.

    Examples
    --------
    >>> PartitionSettings(method="random", n_experts=16, seed=1).method
    'random'
    """

    method: Method
    n_experts: int | None = None
    layers: tuple[int, ...] | None = None
    features: WeightKind = "input"
    query: str | None = None
    run: str | None = None
    half: Half = "all"
    matched: str | None = None
    activity: str | None = None
    seed: int = 0
    warm_start: str | None = None
    n_starts: int = _N_STARTS
    normalize: bool = True

    def __post_init__(self) -> None:
        """Check values; sort the layers and drop repeated ones."""
        check_settings(self, AnalysisError, n_experts=1, n_starts=1, seed=0)
        takes = _TAKES[self._way]
        if self.warm_start is not None and self.n_starts != _N_STARTS:
            raise AnalysisError("n_starts means nothing to a warm start, which is one")
        for field in fields(self):
            if field.name not in ("method", "layers", *takes) and getattr(self, field.name) != field.default:
                others = ", ".join(way for way, names in _TAKES.items() if field.name in names)
                raise AnalysisError(f"`{field.name}` means nothing to method {self._way}; it is for {others}")
        if self.n_experts is None and "n_experts" in takes:
            raise AnalysisError(f"method {self._way} needs n_experts: how many experts a layer has")
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))

    @property
    def reads_weights(self) -> bool:
        """Whether the model is loaded and its weights are clustered; all other ways read the store."""
        return self._way == "kmeans"

    def columns(self) -> dict[str, object]:
        """Return the columns of a partition that these settings decide and that are part of its identity."""
        return {
            # Apart from random, as matched experts are no baseline of plain chance.
            "method": "matched" if self._way == "matched random" else self.method,
            "seed": self.seed if "seed" in _TAKES[self._way] else None,
            "half": self.half if self.method == "function" else None,
        }

    @property
    def objective_name(self) -> str | None:
        """What the method minimises, None if nothing."""
        return {"kmeans": "inertia", "function": "inertia", "coactivation": "cut"}.get(self.method)

    def parameters(self) -> dict[str, object]:
        """Return those settings of the method that a partition has no columns for, as JSON values."""
        names = ["layers", *(name for name in _TAKES[self._way] if name not in _STORED_ELSEWHERE)]
        return {name: getattr(self, name) for name in names if name != "n_starts" or self.warm_start is None}

    @property
    def _way(self) -> str:
        if self.method == "kmeans" and self.query is not None:
            return "kmeans of a query"
        return "matched random" if self.method == "random" and self.matched is not None else self.method
