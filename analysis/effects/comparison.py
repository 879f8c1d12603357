"""Comparisons: the sources of a study beside one control, on every target."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ...schema.vocabulary import Control
from ..perturbation.settings import SHARED
from .set_sample import finite_mean

__all__ = ["Comparison", "Group", "compare"]

_CONTROLS = get_args(Control)


@dataclass(frozen=True, slots=True)
class Group:
    """The sets of neurons of one source, chosen in one way, at one dose: they differ in their seeds.

    Parameters
    ----------
    selection
        How they were chosen.
    source
        Family and function.
    effects
        Damage of each set. [sets, functions]
    sums
        Mean over the sets of what `Resampling.reduce` returned. [texts, functions, strata]
    """

    selection: str
    source: tuple[str, str]
    effects: NDArray[np.float64]
    sums: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All sources of one selection beside one control, at one dose.

    Parameters
    ----------
    control
        none, random, matched, nonfunctional or other.
    groups
        All groups of the dose.
    sources
        The group of each source. [sources]
    control_groups
        The group of each source's control; None of none and other. [sources]
    target
        The target that is the source's function, -1 if none is. [sources]
    n_targets
        Functions read out.
    """

    control: str
    groups: Sequence[Group]
    sources: NDArray[np.int64]
    control_groups: NDArray[np.int64] | None
    target: NDArray[np.int64]
    n_targets: int

    @property
    def selection(self) -> str:
        """How the sources' neurons were chosen."""
        selection: str = self.groups[self.sources[0]].selection
        return selection

    @property
    def is_own(self) -> bool:
        """Whether the sources' neurons are their own, not drawn as a control."""
        return self.selection not in _CONTROLS

    @property
    def is_on_target(self) -> NDArray[np.bool_]:
        """Whether the target is the source's function. [sources, functions]."""
        is_on_target: NDArray[np.bool_] = self.target[:, None] == np.arange(self.n_targets)
        return is_on_target

    def control_effects(self, effects: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the control's mean effects.

        Parameters
        ----------
        effects
            Mean effects of all groups. [..., groups, functions]

        Returns
        -------
        control_effects
            [..., sources, functions]
        """
        if self.control_groups is not None:
            return effects[..., self.control_groups, :]
        if self.control == "none":
            return np.zeros((1, 1), dtype=effects.dtype)
        # What a source does to its own function is no control of another's: it would count damage to a module as
        # what any neurons do.
        counted = (~self.is_on_target).astype(effects.dtype)
        theirs = effects[..., self.sources, :] * counted
        others: NDArray[np.floating] = theirs.sum(axis=-2, keepdims=True) - theirs
        others /= counted.sum(axis=0) - counted
        return others

    def differences(self, effects: NDArray[np.floating], sign: int = -1) -> NDArray[np.floating]:
        """Return effects less the control's, or their sum with sign 1.

        Parameters
        ----------
        effects
            Mean effects of all groups. [..., groups, functions]
        sign
            -1 or 1.

        Returns
        -------
        differences
            [..., sources, functions]
        """
        differences: NDArray[np.floating] = effects[..., self.sources, :] + sign * self.control_effects(effects)
        return differences

    def selectivities(
        self, differences: NDArray[np.floating], is_defined: NDArray[np.bool_], sign: int = -1
    ) -> NDArray[np.floating]:
        """Return differences on target less their mean over all other targets, or the sum of both with sign 1.

        Parameters
        ----------
        differences
            What `differences` returned, 0 where it is not defined. [n, sources, functions]
        is_defined
            Where it is. [n or 1, functions]
        sign
            -1 or 1.

        Returns
        -------
        selectivities
            NaN of a source that is no target, and where the difference on target or all others are not defined.
            [n, sources]
        """
        on_target = differences[:, np.arange(len(self.target)), self.target]
        n_others = (is_defined.sum(axis=1, keepdims=True) - 1).astype(differences.dtype)
        is_known = is_defined[:, self.target] & (self.target >= 0) & (n_others > 0)
        others = (differences.sum(axis=2) - on_target) / np.maximum(n_others, 1)
        selectivities: NDArray[np.floating] = on_target + sign * others
        selectivities[~np.broadcast_to(is_known, selectivities.shape)] = np.nan
        return selectivities

    def means(
        self,
        differences: NDArray[np.floating],
        selectivities: NDArray[np.floating],
        is_defined: NDArray[np.bool_],
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return means over the sources that are targets, of differences on target and of selectivities.

        Parameters
        ----------
        differences
            What `differences` returned. [n, sources, functions]
        selectivities
            What `selectivities` returned of them. [n, sources]
        is_defined
            Where differences are defined. [n or 1, functions]

        Returns
        -------
        mean_difference, mean_selectivity
            Of what is defined, NaN where nothing is. [n, 1] each
        """
        is_target = self.target >= 0
        target = self.target[is_target]
        on_target = differences[:, is_target, target].astype(np.float64)
        on_target[~np.broadcast_to(is_defined[:, target], on_target.shape)] = np.nan
        chosen = selectivities[:, is_target].astype(np.float64)
        return finite_mean(on_target, axis=1)[:, None], finite_mean(chosen, axis=1)[:, None]

    def control_sets(self, place: int) -> NDArray[np.float64]:
        """Return the effect of each set of a source's control.

        Parameters
        ----------
        place
            Which source.

        Returns
        -------
        effects
            NaN of another source's on its own function. [sets, functions]
        """
        if self.control_groups is not None:
            effects: NDArray[np.float64] = self.groups[self.control_groups[place]].effects
            return effects
        others = np.delete(np.arange(len(self.sources)), place) if self.control == "other" else np.arange(0)
        sets = np.full((len(others), self.n_targets), np.nan)
        for row, other in enumerate(others):
            sets[row] = self.groups[self.sources[other]].effects.mean(axis=0)
        sets[self.is_on_target[others]] = np.nan
        return sets

    def set_selectivities(self, place: int) -> NDArray[np.float64]:
        """Return the selectivity of each set of a source's control, for the target that is the source's function.

        Effects are taken less the control's mean on the target: not every other source has an effect on each target
        that counts, and targets that are easily damaged would tell them apart.

        Parameters
        ----------
        place
            Which source; it must be a target.

        Returns
        -------
        selectivities
            NaN where there are no other targets. [sets]
        """
        sets = self.control_sets(place)
        rest = sets - finite_mean(sets, axis=0)
        target = self.target[place]
        selectivities: NDArray[np.float64] = rest[:, target] - finite_mean(np.delete(rest, target, axis=1), axis=1)
        return selectivities


def compare(groups: Sequence[Group], targets: Sequence[tuple[str, str]]) -> Iterator[Comparison]:
    """Yield the comparisons of a dose: own selections with each control there is, control selections with none.

    Parameters
    ----------
    groups
        All groups of the dose.
    targets
        Family and function of each function read out.
    """
    index = {(group.selection, group.source): place for place, group in enumerate(groups)}
    for selection in sorted({group.selection for group in groups}):
        members = [place for place, group in enumerate(groups) if group.selection == selection]
        controls: dict[str, Mapping[int, int] | None] = {"none": None}
        if selection not in _CONTROLS:
            if len(members) > 2:
                controls["other"] = None
            controls |= {control: _control_groups(groups, members, index, control) for control in _CONTROLS}
        for control, found in controls.items():
            sources = members if found is None else list(found)
            if sources:
                target = [
                    targets.index(each) if each in targets else -1 for each in (groups[m].source for m in sources)
                ]
                yield Comparison(
                    control,
                    groups,
                    np.asarray(sources),
                    None if found is None else np.asarray(list(found.values())),
                    np.asarray(target),
                    len(targets),
                )


def _control_groups(
    groups: Sequence[Group], members: Sequence[int], index: Mapping[tuple[str, tuple[str, str]], int], control: str
) -> dict[int, int]:
    """Return the group of the control of each group that has one: its own, or one that all share."""
    found = {}
    for member in members:
        for source in (groups[member].source, (SHARED, SHARED)):
            if (control, source) in index:
                found[member] = index[control, source]
                break
    return found
