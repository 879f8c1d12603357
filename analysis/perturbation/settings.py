"""The settings of a perturbation study, and what each kind of ablation needs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from ...errors import AnalysisError, check_known, check_settings
from ...schema.vocabulary import Control, PerturbationKind, Ranking, ReadoutKind, RoutingKind, Selection

LEVEL_COLUMNS: Mapping[PerturbationKind, str] = {"mean": "mean", "clamp": "value", "noise": "std"}
"""By kind, the column with each neuron's level: the value it is held at, or the standard deviation of its noise."""

Functions = Sequence[tuple[str, str]]
"""Family and function of each of some functions."""

SHARED = "*"
"""Family and function of a control that all sources share."""

ROUTING: tuple[RoutingKind, ...] = get_args(RoutingKind)
"""Kinds that restrict the router, and so take whole native experts."""

ENERGY_RATIO = 1.25
"""Default of the setting `energy_ratio`."""

_DRAWN = ("noise", "shuffle")  # kinds that draw at random; they alone have a scale
_DOSES = (0.02, 0.06, 0.125)  # the paper's: 2 to 12.5% of the neurons of the layers
_LEAST = {"n_seeds": 2, "seed": 0, "n_texts": 1, "batch_tokens": 1, "n_bootstrap": 1, "n_permutations": 1}


@dataclass(frozen=True, slots=True)
class PerturbationSettings:
    """What defines a perturbation study, beside the model.

    A study ablates the neurons of one source after the other; a source is a function with the neurons selected for it.
    Exactly one of `partition`, `query` and `is_top` says how they are selected.

    Parameters
    ----------
    partition
        Id of a partition, or its beginning: each function's experts are ablated, beginning with the expert in which its
        top neurons are most over-represented.
    query
        SQL that returns stack, layer and neuron, in the order in which neurons are ablated. With columns family and
        function, each function is a source. The kind clamp needs a column value.
    is_top
        Ablate each function's top neurons, beginning with the highest in the ranking.
    ranking
        What top neurons, and those of an expert, are ordered by: ``lift``, or ``predictivity`` as in Zhang et al. 2023.
    kind, scale
        Kind of ablation (see `ablate`), and factor of shuffle and noise. None: 4 for shuffle (as in the paper), else 1.
    doses
        Shares of the neurons of the studied layers to ablate. None: 2, 6 and 12.5%; for a query, all of its rows.
    controls
        Control selections that are ablated for comparison. None: all that are possible. (The comparison with the
        neurons of other functions is always made, and costs nothing.)
    energy_ratio
        Largest ratio, either way, of the energies of a matched set and its source; other sets are not compared.
    n_seeds, seed
        Number of seeds of each control, and of a source's own neurons where the kind draws at random (at least 2,
        because control sets differ from each other), and the first of them, which is also the seed of the choice of
        texts and of the statistics.
    layers, readout
        Layers whose neurons may be ablated (None: all measured layers), and what is read out.
    families, functions
        The sources, by family or by ``family/function``. Empty: all functions that are read out.
    n_texts, max_tokens
        Most texts of each half, and longest text in tokens (None: as in the run).
    batch_tokens
        Most tokens of a batch, padding included. The kind shuffle permutes within a batch.
    n_bootstrap, n_permutations
        Number of resamples behind intervals, and of permutations behind p values.
    tokenizer
        Hub id or folder of a tokenizer. None: the checkpoint's own.

    Raises
    ------
    UnknownNameError, AnalysisError
        If a kind, readout or control does not exist; if a value is out of range, or two settings do not go together.

    Examples
    --------
    >>> PerturbationSettings(is_top=True, doses=(0.02, 0.1)).selection
    'top'
    """

    partition: str | None = None
    query: str | None = None
    is_top: bool = False
    ranking: Ranking = "lift"
    kind: PerturbationKind = "zero"
    scale: float | None = None
    doses: tuple[float, ...] | None = None
    controls: tuple[Control, ...] | None = None
    energy_ratio: float = ENERGY_RATIO
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
        """Check values, and sort doses, layers and names: their order and repetition mean nothing."""
        if sum((self.partition is not None, self.query is not None, self.is_top)) != 1:
            raise AnalysisError("a study perturbs neurons of a partition, of a query, or top neurons: one of the three")
        check_settings(self, AnalysisError, **_LEAST)
        check_known("control", self.controls or (), get_args(Control))
        for control in self.controls or ():
            if control in self._impossible:
                raise AnalysisError(f"the control {control} is not possible: {self._impossible[control]}")
        check_kind(self.kind, scale=self.factor)
        if self.kind == "clamp" and self.query is None:
            raise AnalysisError("the kind clamp holds neurons at a column value, which only a query yields")
        if self.kind in ROUTING and self.is_top:
            raise AnalysisError(f"the kind {self.kind} takes whole native experts, which top neurons are not")
        if self.query is not None and (self.families or self.functions):
            raise AnalysisError("families and functions choose among those of a run; the query itself names its own")
        if self.query is not None and self.ranking != "lift":
            raise AnalysisError("a ranking orders top neurons and those of experts; a query orders its own")
        for dose in self.doses or ():
            if not 0 < dose <= 1:
                raise AnalysisError(f"a dose is {dose}; doses are shares of neurons, above 0 and up to 1")
        if not 1 <= self.energy_ratio < math.inf:
            raise AnalysisError(f"energy_ratio is {self.energy_ratio}; it must be a number of at least 1")
        for name in ("doses", "layers", "families", "functions", "controls"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))
        if self.doses is None and self.query is None:
            object.__setattr__(self, "doses", _DOSES)

    @property
    def factor(self) -> float:
        """The scale, given or by default."""
        default = 4.0 if self.kind == "shuffle" else 1.0
        return default if self.scale is None else self.scale

    @property
    def selection(self) -> Selection:
        """How a source's own neurons are selected."""
        return "functional" if self.partition is not None else "top" if self.is_top else "query"

    @property
    def controls_run(self) -> tuple[Control, ...]:
        """The controls that are run."""
        possible = tuple(control for control in get_args(Control) if control not in self._impossible)
        return possible if self.controls is None else self.controls

    @property
    def _impossible(self) -> dict[str, str]:
        """Why some controls are not possible, by control."""
        reasons = {}
        if self.partition is None:
            reasons["nonfunctional"] = "it draws from a partition's experts, and this study has none"
        if self.kind == "clamp":
            shared = "all sources share it, and each has values of its own to be clamped to"
            reasons.update(random=shared, nonfunctional=shared)
        return reasons

    @property
    def is_drawn(self) -> bool:
        """Whether the kind draws at random, so that two seeds ablate the same neurons differently."""
        return self.kind in _DRAWN

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the study."""
        return tuple(range(self.seed, self.seed + self.n_seeds))


def check_kind(kind: PerturbationKind, *, scale: float) -> None:
    """Refuse an unknown kind of ablation, and a scale that is negative, not finite, or not 1 for a kind without one."""
    check_known("kind of perturbation", [kind], get_args(PerturbationKind))
    if not (math.isfinite(scale) and scale >= 0):
        raise AnalysisError(f"a perturbation of scale {scale} is not possible; scales are numbers of at least 0")
    if kind not in _DRAWN and scale != 1:
        raise AnalysisError(f"the kind {kind} has no scale, {scale} was given; {' and '.join(_DRAWN)} have one")
