"""Comparisons: the sources of a study beside one control, on every target."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ...schema.vocabulary import Control
from ..perturbation.settings import SHARED
from .set_sample import finite_mean

_CONTROLS = get_args(Control)


@dataclass(frozen=True, slots=True)
class Group:
    """The sets of neurons of one source, selection and dose, which differ in their seeds."""

    selection: str
    source: tuple[str, str]  # family and function
    effects: NDArray[np.float64]  # of each set [sets, functions]
    sums: NDArray[np.float32]  # mean over the sets of what `Resampling.reduce` returned [texts, functions, strata]


class Statistics(NamedTuple):
    """The statistics of a comparison, for each of n versions of the effects: observed, resampled or permuted.

    A difference is a source's effect less its control's. A selectivity is the difference on the source's own function
    less the mean difference on all other functions. It is NaN for a source whose function is not read out, and where
    no difference is defined on the own function or on the others. Means are over the sources whose function is read
    out: of the difference on it, and of the selectivity. They are NaN where no such value is defined.
    """

    differences: NDArray[np.floating]  # [n, sources, functions]
    selectivities: NDArray[np.floating]  # [n, sources]
    mean_difference: NDArray[np.floating]  # [n]
    mean_selectivity: NDArray[np.floating]  # [n]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All sources of one selection beside one control, at one dose."""

    control: str  # none, random, matched, nonfunctional or other
    groups: Sequence[Group]  # all groups of the dose
    sources: NDArray[np.int64]  # the group of each source [sources]
    # The group of each source's control; None where the control is none or other [sources]
    control_groups: NDArray[np.int64] | None
    target: NDArray[np.int64]  # the target that is the source's function, -1 if none is [sources]
    n_targets: int  # functions read out

    @property
    def selection(self) -> str:
        """How the sources' neurons were selected."""
        return self.groups[int(self.sources[0])].selection

    @property
    def is_own(self) -> bool:
        """Whether the sources' neurons are their own, not drawn as a control."""
        return self.selection not in _CONTROLS

    @property
    def is_target(self) -> NDArray[np.bool_]:
        """Whether the source's function is read out. [sources]."""
        return self.target >= 0

    @property
    def is_on_target(self) -> NDArray[np.bool_]:
        """Whether the function that is read out is the source's own. [sources, functions]."""
        is_on_target: NDArray[np.bool_] = self.target[:, None] == np.arange(self.n_targets)
        return is_on_target

    def control_effects(self, effects: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the mean effects of the sources' controls [n, sources, functions], from [n, groups, functions].

        The control ``none`` has a single 0, which broadcasts to this shape.
        """
        if self.control_groups is not None:
            return effects[:, self.control_groups]
        if self.control == "none":
            return np.zeros((1, 1, 1), dtype=effects.dtype)
        # What a source does to its own function is no control of another's: it would count the effect on a module as
        # what any neurons do.
        counted = (~self.is_on_target).astype(effects.dtype)
        own = effects[:, self.sources] * counted
        others: NDArray[np.floating] = own.sum(axis=1, keepdims=True) - own
        others /= counted.sum(axis=0) - counted
        return others

    def statistics(
        self,
        effects: NDArray[np.floating],  # mean effects of all groups, 0 where not defined [n, groups, functions]
        is_defined: NDArray[np.bool_] | None = None,  # None for everywhere [n or 1, functions]
        sign: int = -1,  # with 1 every difference is a sum
    ) -> Statistics:
        """Return the differences, selectivities and their means, given the effects of all groups."""
        if is_defined is None:
            is_defined = np.ones((1, self.n_targets), dtype=np.bool_)
        differences = effects[:, self.sources] + sign * self.control_effects(effects)

        on_target = differences[:, np.arange(len(self.target)), self.target]  # of any function where there is no target
        n_others = (is_defined.sum(axis=1, keepdims=True) - 1).astype(differences.dtype)
        is_known = is_defined[:, self.target] & self.is_target & (n_others > 0)
        others = (differences.sum(axis=2) - on_target) / np.maximum(n_others, 1)
        selectivities: NDArray[np.floating] = on_target + sign * others
        selectivities[~np.broadcast_to(is_known, selectivities.shape)] = np.nan

        target = self.target[self.is_target]
        own = differences[:, self.is_target, target].astype(np.float64)
        own[~np.broadcast_to(is_defined[:, target], own.shape)] = np.nan
        selective = selectivities[:, self.is_target].astype(np.float64)
        return Statistics(differences, selectivities, finite_mean(own, axis=1), finite_mean(selective, axis=1))

    def control_sets(self, place: int) -> NDArray[np.float64]:
        """Return the effects of the control sets of the source at `place`. [sets, functions].

        Another source counts as one set, the mean over its own, and is NaN on its own function.
        """
        if self.control_groups is not None:
            effects: NDArray[np.float64] = self.groups[self.control_groups[place]].effects
            return effects
        others = np.delete(np.arange(len(self.sources)), place) if self.control == "other" else np.arange(0)
        sets = [self.groups[self.sources[other]].effects.mean(axis=0) for other in others]
        return np.where(self.is_on_target[others], np.nan, np.reshape(sets, (-1, self.n_targets)))


def compare(
    groups: Sequence[Group],
    targets: Sequence[tuple[str, str]],  # family and function of each function read out
) -> Iterator[Comparison]:
    """Yield the comparisons of all groups of a dose.

    Own selections are compared with every control there is, control selections with the control ``none`` alone.
    """
    index = {(group.selection, group.source): place for place, group in enumerate(groups)}
    target_index = {target: place for place, target in enumerate(targets)}
    for selection in sorted({group.selection for group in groups}):
        members = [place for place, group in enumerate(groups) if group.selection == selection]
        controls: dict[str, dict[int, int | None]] = {"none": dict.fromkeys(members)}
        if selection not in _CONTROLS:
            if len(members) > 2:
                controls["other"] = dict.fromkeys(members)
            for control in _CONTROLS:
                # A control is drawn for a source, or once for all of them.
                shared = index.get((control, (SHARED, SHARED)))
                own = {member: index.get((control, groups[member].source), shared) for member in members}
                controls[control] = {member: group for member, group in own.items() if group is not None}
        for control, control_groups in controls.items():
            if control_groups:
                yield Comparison(
                    control,
                    groups,
                    np.asarray(list(control_groups)),
                    None if control in ("none", "other") else np.asarray(list(control_groups.values())),
                    np.asarray([target_index.get(groups[member].source, -1) for member in control_groups]),
                    len(targets),
                )
