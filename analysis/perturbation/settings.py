"""What defines a study of perturbations, beside the model."""

from dataclasses import dataclass
from typing import get_args

from ...errors import AnalysisError, UnknownNameError
from ...schema.vocabulary import Control, PerturbationKind, ReadoutKind, Selection
from .kinds import check_kind

__all__ = ["SHARED", "PerturbationSettings"]

SHARED = "*"
"""What stands for the family, and for the function, of a source where all sources share a control."""

_DRAWN = ("shuffle", "noise")
# The paper's: 2 to 12.5% of the neurons of the layers.
_DOSES = (0.02, 0.06, 0.125)


@dataclass(frozen=True, slots=True)
class PerturbationSettings:
    """What defines a study of perturbations, beside the model.

    Exactly one of `partition`, `query` and `is_top` says whose neurons are perturbed.

    Parameters
    ----------
    partition
        Beginning of the id of a partition: each function's experts, from the one that holds most of its top neurons
        against chance on.
    query
        SQL that yields stack, layer and neuron, in the order in which doses take them in; with columns family and
        function one source a function. A column value is what the kind clamp holds them at.
    is_top
        Each function's top neurons, from the one of the highest lift on.
    kind
        What is done to them (see `perturb`).
    scale
        Factor of shuffle and noise; None for the paper's 4 of shuffle, and 1.
    doses
        Shares of the layers' neurons to perturb; None for all rows of a query, else 2, 6 and 12.5%.
    controls
        Controls to run; None for all there can be. Other functions' neurons are a control without a run of their own.
    n_seeds
        Seeds of each control, and of the own neurons where the kind draws; at least 2, as sets differ by themselves.
    seed
        The first of them; the choice of texts and the statistics use it as well.
    layers
        Layers whose neurons are perturbed; None for all that were measured.
    readout
        What is read out.
    families, functions
        Functions whose neurons are perturbed, by family or by name; none: all that can be read out.
    n_texts
        Most texts to read out, and to fit on.
    max_tokens
        Longest text in tokens; None for the run's.
    batch_tokens
        Tokens of a batch, padding included; shuffle permutes within a batch.
    n_bootstrap, n_permutations
        Resamples behind intervals and permutations behind p values.
    tokenizer
        Hub id or folder of the tokenizer to read texts with; the checkpoint's own if None.
    """

    partition: str | None = None
    query: str | None = None
    is_top: bool = False
    kind: PerturbationKind = "zero"
    scale: float | None = None
    doses: tuple[float, ...] | None = None
    controls: tuple[Control, ...] | None = None
    n_seeds: int = 5
    seed: int = 0
    layers: tuple[int, ...] | None = None
    readout: ReadoutKind = "probe"
    families: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    n_texts: int = 1000
    max_tokens: int | None = None
    batch_tokens: int = 4096
    n_bootstrap: int = 1000
    n_permutations: int = 9999
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        """Check values; order and repetition of layers, doses and names mean nothing."""
        if sum((self.partition is not None, self.query is not None, self.is_top)) != 1:
            raise AnalysisError("a study perturbs neurons of a partition, of a query, or top neurons: one of the three")
        for name, choices in (("kind", get_args(PerturbationKind)), ("readout", get_args(ReadoutKind))):
            if getattr(self, name) not in choices:
                raise UnknownNameError(name, getattr(self, name), choices)
        for control in self.controls or ():
            if control not in get_args(Control):
                raise UnknownNameError("control", control, get_args(Control))
            if control in self._impossible:
                raise AnalysisError(f"the control {control} is not possible: {self._impossible[control]}")
        check_kind(self.kind, scale=self.factor)
        if self.kind == "clamp" and self.query is None:
            raise AnalysisError("the kind clamp holds neurons at a column value, which only a query yields")
        if self.kind == "route-away" and self.is_top:
            raise AnalysisError("the kind route-away takes whole native experts, which top neurons are not")
        if self.query is not None and (self.families or self.functions):
            raise AnalysisError("families and functions choose among those of a run; the query itself names its own")
        for dose in self.doses or ():
            if not 0 < dose <= 1:
                raise AnalysisError(f"a dose is {dose}; doses are shares of neurons, above 0 and up to 1")
        for name, least in (
            ("n_seeds", 2), ("seed", 0), ("n_texts", 1), ("batch_tokens", 1), ("n_bootstrap", 1), ("n_permutations", 1)
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise AnalysisError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("doses", "layers", "families", "functions", "controls"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(sorted(set(value))))
        if self.doses is None and self.query is None:
            object.__setattr__(self, "doses", _DOSES)

    @property
    def factor(self) -> float:
        """The scale, as given or by default."""
        if self.scale is not None:
            return self.scale
        return 4.0 if self.kind == "shuffle" else 1.0

    @property
    def selection(self) -> Selection:
        """How neurons are chosen."""
        if self.partition is not None:
            return "functional"
        return "top" if self.is_top else "query"

    @property
    def controls_run(self) -> tuple[Control, ...]:
        """The controls that are run."""
        if self.controls is not None:
            return self.controls
        return tuple(each for each in get_args(Control) if each not in self._impossible)

    @property
    def _impossible(self) -> dict[str, str]:
        """Why some controls cannot be run."""
        found = {}
        if self.partition is None:
            found["nonfunctional"] = "it draws from a partition's experts, and this study has none"
        if self.kind == "clamp":
            shared = "all sources share it, and each has values of its own to be clamped to"
            found.update(random=shared, nonfunctional=shared)
        return found

    @property
    def is_drawn(self) -> bool:
        """Whether the kind draws, so that two seeds perturb the same neurons differently."""
        return self.kind in _DRAWN

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the study."""
        return tuple(range(self.seed, self.seed + self.n_seeds))
