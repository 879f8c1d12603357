"""How the experts of a study of emergence are made."""

from dataclasses import dataclass
from typing import Any

from ...errors import AnalysisError, check_settings
from ...schema.vocabulary import EmergenceMethod, WeightKind
from ..partitions.settings import PartitionSettings

_N_SEEDS = 2


@dataclass(frozen=True, slots=True)
class EmergenceSettings:
    """How the experts of a study of emergence are made: with the series, these settings define the study.

    Parameters
    ----------
    method, n_experts
        How neurons are grouped into experts, and how many a layer has; None for native experts.
    layers
        Layers to partition; None for all.
    features
        For kmeans, which weights of a neuron are its vector.
    n_seeds
        Seeds from which the experts of each checkpoint are made, at least 2: partitions of two checkpoints are compared
        between different seeds, and so are those of one checkpoint, which shows how much differs by chance.
    n_random
        Number of random partitions of the last checkpoint's neurons, and of partitions matched on input norm and firing
        rate: the controls.
    seed
        The first seed of each kind of partition.
    n_starts
        Starts of each partition that is made anew, of which the best is kept; a warm start is one.

    Examples
    --------
    >>> EmergenceSettings(method="kmeans", n_experts=16).seeds
    (0, 1)
    """

    method: EmergenceMethod = "kmeans"
    n_experts: int | None = None
    layers: tuple[int, ...] | None = None
    features: WeightKind = "input"
    n_seeds: int = _N_SEEDS
    n_random: int = 5
    seed: int = 0
    n_starts: int = 4

    def __post_init__(self) -> None:
        """Check values; order and repetition of layers mean nothing."""
        check_settings(self, AnalysisError, n_seeds=2, n_random=0)
        if self.method == "native" and self.n_seeds != _N_SEEDS:
            raise AnalysisError("n_seeds means nothing to native experts, which are the same neurons throughout")
        object.__setattr__(self, "layers", self.partition().layers)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of cold partitions."""
        return () if self.method == "native" else tuple(range(self.seed, self.seed + self.n_seeds))

    @property
    def random_seeds(self) -> tuple[int, ...]:
        """The seeds of random partitions, and of matched ones."""
        return tuple(range(self.seed, self.seed + self.n_random))

    @property
    def has_warm_chain(self) -> bool:
        """Whether experts of a checkpoint can start from those of the checkpoint before."""
        # A warm start needs centres, and METIS, which divides graphs, has none.
        return self.method in ("kmeans", "function")

    def partition(
        self, *, run: str | None = None, seed: int | None = None, warm_start: str | None = None
    ) -> PartitionSettings:
        """Return the settings of one partition, of the first seed if none is given; kmeans does not use the run."""
        shared: dict[str, Any] = {"n_experts": self.n_experts, "layers": self.layers, "features": self.features}
        if self.method != "kmeans":
            shared["run"] = run
        if self.method != "native":
            shared["seed"] = self.seed if seed is None else seed
        if warm_start is None:
            shared["n_starts"] = self.n_starts
        return PartitionSettings(self.method, warm_start=warm_start, **shared)
