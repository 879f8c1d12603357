"""Contrasts: what the perturbations of a dose did, beside what a control does, observed, resampled and tested."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ...schema.vocabulary import Control
from ..perturbation.settings import SHARED, Functions
from .resampling import Resampling, finite_mean

CONTROLS = get_args(Control)

_APART_P = 0.05  # two sources overlap if sets drawn at random share as many neurons more rarely than this


@dataclass(frozen=True, slots=True)
class CellEffect:
    """What one perturbation of a study did."""

    source_family: str  # ``*``, as the function, of a control that all sources share
    source_function: str
    selection: str  # functional, top or query; or a control: random, matched or nonfunctional
    dose: float  # share of neurons perturbed
    seed: int  # of the selection and the perturbation
    neurons: NDArray[np.int64]  # numbers that stand for the neurons perturbed
    sums: NDArray[np.float32]  # the effects on instances, by `Resampling.reduce` [texts, functions, strata]
    energy: float = 1.0  # of the neurons perturbed, in any unit


@dataclass(frozen=True, slots=True)
class Group:
    """The sets of neurons of one source, selection and dose, which differ in their seeds."""

    selection: str
    source: tuple[str, str]  # family and function
    neurons: Sequence[NDArray[np.int64]]  # of each set
    energy: float  # mean over the sets
    effects: NDArray[np.float64]  # of each set [sets, functions]
    sums: NDArray[np.float32]  # mean over the sets of what `Resampling.reduce` returned [texts, functions, strata]


class Statistics(NamedTuple):
    """The statistics of a contrast, for each of n versions of the effects: observed, resampled or permuted.

    A difference is a source's effect less its control's. A selectivity is the difference on the source's own function
    less the mean difference on all other functions, of those that the model as it is reads better than chance: beside
    functions that nothing can impair, anything looks selective. It is NaN where its function is not read out, or no
    better than chance, and where no difference is defined on the own function or on the others. Means are over the
    sources whose function is read out, of the difference on it and of the selectivity; NaN where none is defined.
    """

    differences: NDArray[np.floating]  # [n, sources, functions]
    selectivities: NDArray[np.floating]  # [n, sources]
    mean_difference: NDArray[np.floating]  # [n]
    mean_selectivity: NDArray[np.floating]  # [n]


@dataclass(frozen=True, slots=True)
class Contrast:
    """All sources of one selection beside one control, at one dose."""

    dose: float  # share of neurons perturbed
    groups: Sequence[Group]  # all groups of the dose
    effects: NDArray[np.float64]  # mean of each group of sets [1, groups, functions]
    resampled_effects: NDArray[np.float32]  # in each resample, 0 where not defined [resamples, groups, functions]
    resampling: Resampling
    targets: Functions  # family and function of each function read out
    is_readable: NDArray[np.bool_]  # whether each counts in selectivities [functions]
    selection: str  # how the sources' neurons were selected
    control: str  # none, random, matched, nonfunctional or other
    sources: NDArray[np.int64]  # the group of each source [sources]
    controls: NDArray[np.int64]  # the groups of the control, or of the other sources [controls]
    is_control: NDArray[np.bool_]  # which of them are each source's control [sources, controls]
    target: NDArray[np.int64]  # the target that is the source's function, -1 if none is [sources]

    @property
    def is_target(self) -> NDArray[np.bool_]:
        """Whether the source's function is read out. [sources]."""
        return self.target >= 0

    @property
    def is_counted(self) -> NDArray[np.bool_]:
        """Whether a control counts on a function: another source on all but its own. [controls, functions].

        What it does to its own is no control of another's: the effect on a module would count as what any neurons do.
        """
        groups = [self.groups[control] for control in self.controls]
        counted = [group.selection in CONTROLS or group.source != target for group in groups for target in self.targets]
        return np.reshape(np.array(counted, dtype=np.bool_), (len(groups), len(self.targets)))

    def controls_of(self, place: int) -> list[Group]:
        """Return the groups that are the control of the source at `place`."""
        return [self.groups[control] for control in self.controls[self.is_control[place]]]

    def overlap_and_energy(self) -> NDArray[np.float64]:
        """Return the share of a source's neurons that its control holds, and the latter's energy to its. [2, sources].

        Means over the sets of the control; NaN without any, and of the energy where its own is 0.
        """
        means = np.full((2, len(self.sources)), np.nan)
        for place, own in enumerate(self.groups[source] for source in self.sources):
            if controls := self.controls_of(place):
                sets = [neurons for group in controls for neurons in group.neurons]
                means[0, place] = overlap(own.neurons[:1], sets).mean()
                energy = np.mean([group.energy for group in controls])
                means[1, place] = energy / own.energy if own.energy > 0 else np.nan
        return means

    def control_effects(self, effects: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the mean effects of the sources' controls [n, sources, functions], from [n, groups, functions]."""
        if self.control == "none":
            return np.zeros((1, 1, 1), dtype=effects.dtype)  # broadcasts to this shape
        counted, is_control = self.is_counted.astype(effects.dtype), self.is_control.astype(effects.dtype)
        means: NDArray[np.floating] = is_control @ (effects[:, self.controls] * counted)
        means /= is_control @ counted
        return means

    def statistics(
        self,
        effects: NDArray[np.floating],  # mean effects of all groups, 0 where not defined [n, groups, functions]
        is_defined: NDArray[np.bool_] | None = None,  # None for everywhere [n or 1, functions]
        sign: int = -1,  # with 1 every difference is a sum
    ) -> Statistics:
        """Return the differences, selectivities and their means, given the effects of all groups."""
        if is_defined is None:
            is_defined = np.ones((1, len(self.targets)), dtype=np.bool_)
        differences = effects[:, self.sources] + sign * self.control_effects(effects)

        on_target = differences[:, np.arange(len(self.target)), self.target]  # of any function where there is no target
        n_others = ((is_defined & self.is_readable).sum(axis=1, keepdims=True) - 1).astype(differences.dtype)
        is_known = is_defined[:, self.target] & self.is_target & self.is_readable[self.target] & (n_others > 0)
        others = (differences @ self.is_readable.astype(differences.dtype) - on_target) / np.maximum(n_others, 1)
        selectivities = np.where(is_known, on_target + sign * others, np.nan)

        target = self.target[self.is_target]
        own = np.where(is_defined[:, target], differences[:, self.is_target, target].astype(np.float64), np.nan)
        selective = selectivities[:, self.is_target].astype(np.float64)
        return Statistics(differences, selectivities, finite_mean(own, axis=1), finite_mean(selective, axis=1))

    def observed(self) -> Statistics:
        """Return the statistics of the effects: n is 1."""
        return self.statistics(self.effects)

    def resampled(self) -> Statistics:
        """Return the statistics in each resample of the texts: n is the number of resamples."""
        return self.statistics(self.resampled_effects, self.resampling.is_defined)

    def control_sets(self, place: int) -> NDArray[np.float64]:
        """Return the effects of the control sets of the source at `place`. [sets, functions].

        Another source counts as one set, the mean over its own, and is NaN on its own function.
        """
        groups = self.controls_of(place)
        if self.control in CONTROLS:
            return np.concatenate([group.effects for group in groups])
        sets = np.reshape([group.effects.mean(axis=0) for group in groups], (-1, len(self.targets)))
        return np.where(self.is_counted[self.is_control[place]], sets, np.nan)


def contrasts(
    resampling: Resampling,
    cells: Sequence[CellEffect],
    targets: Functions,  # family and function of each function read out
    is_readable: NDArray[np.bool_] | None = None,  # whether they count in selectivities, None for all [functions]
) -> Iterator[tuple[Contrast, Statistics]]:
    """Yield contrasts and their two-sided p over texts, by dose; cells that differ in the seed alone are one group.

    Own selections are compared with no perturbation (``none``), with those controls there are, and with the ``other``
    sources that are `apart`, if there are at least two: a source counts as one set, the mean over its seeds, but not on
    the target that is its own function, where it is expected to have an effect. Controls are compared with ``none``.
    """
    if is_readable is None:
        is_readable = np.ones(len(targets), dtype=np.bool_)
    for dose in sorted({cell.dose for cell in cells}):
        groups = _groups([cell for cell in cells if cell.dose == dose], resampling)
        effects = np.stack([group.effects.mean(axis=0) for group in groups])[None]
        resampled = np.stack([np.nan_to_num(resampling.bootstrap(group.sums)) for group in groups], axis=1)
        of_dose = functools.partial(Contrast, dose, groups, effects, resampled, resampling, targets, is_readable)
        made = list(_compare(of_dose, groups, targets, dose))
        yield from zip(made, _p_texts(made, groups, resampling), strict=True)


def overlap(own: Sequence[NDArray[np.int64]], others: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Return the share of each own set's neurons that are in each of other sets. [own, others]."""
    n_neurons = 1 + max((int(neurons.max(initial=-1)) for neurons in (*own, *others)), default=0)
    is_in = np.zeros((len(own) + len(others), n_neurons), dtype=np.float32)
    for row, neurons in zip(is_in, (*own, *others), strict=True):
        row[neurons] = 1
    shared = (is_in[: len(own)] @ is_in[len(own) :].T).astype(np.float64)
    return shared / np.array([len(neurons) for neurons in own], dtype=np.float64)[:, None]


def apart(neurons: Sequence[NDArray[np.int64]], dose: float) -> NDArray[np.bool_]:
    """Return which sources can be each other's control at a dose, given the neurons of each. [sources, sources].

    Two are apart unless they share more neurons than 95% of pairs drawn at random, by the hypergeometric distribution:
    a source that shares more would do in part what the own neurons do, and hide their effect. (To allow less, as the
    mean of random pairs, would choose sources that differ from the own more than any do.)
    """
    n_own = np.array([[len(own)] for own in neurons])
    n_shared = np.rint(overlap(neurons, neurons) * n_own)
    # A dose is a share of all neurons.
    is_apart = stats.hypergeom.sf(n_shared - 1, np.rint(n_own / dose), n_own, n_own.T) > _APART_P
    return np.asarray(is_apart & ~np.eye(len(neurons), dtype=np.bool_))


def _groups(cells: Sequence[CellEffect], resampling: Resampling) -> list[Group]:
    sets: dict[tuple[str, tuple[str, str]], list[CellEffect]] = {}
    for cell in sorted(cells, key=lambda cell: cell.seed):
        sets.setdefault((cell.selection, (cell.source_family, cell.source_function)), []).append(cell)
    groups = []
    for (selection, source), members in sets.items():
        energy, sums = np.mean([cell.energy for cell in members]), np.mean([cell.sums for cell in members], axis=0)
        effects = np.stack([resampling.effects(cell.sums) for cell in members])
        groups.append(Group(selection, source, [cell.neurons for cell in members], float(energy), effects, sums))
    return groups


def _compare(make: Callable[..., Contrast], groups: list[Group], targets: Functions, dose: float) -> Iterator[Contrast]:
    """Yield the contrasts of a dose, which are made from what they compare."""
    index = {(group.selection, group.source): place for place, group in enumerate(groups)}
    target_index = {target: place for place, target in enumerate(targets)}
    for selection in sorted({group.selection for group in groups}):
        members = [place for place, group in enumerate(groups) if group.selection == selection]
        # By control, for each source that it is for, its groups: one, or those of several other sources.
        controls: dict[str, dict[int, list[int]]] = {"none": {member: [] for member in members}}
        if selection not in CONTROLS:
            is_apart = apart([groups[place].neurons[0] for place in members], dose)  # the same in all sets of a source
            others = zip(members, [np.array(members)[own].tolist() for own in is_apart], strict=True)
            controls["other"] = {member: groups_of for member, groups_of in others if len(groups_of) > 1}
            for control in CONTROLS:
                # A control is drawn for a source, or once for all of them.
                shared = index.get((control, (SHARED, SHARED)))
                own = {member: index.get((control, groups[member].source), shared) for member in members}
                controls[control] = {member: [group] for member, group in own.items() if group is not None}
        for control, of_sources in controls.items():
            if of_sources:
                used = np.array(sorted(set(chain.from_iterable(of_sources.values()))), dtype=np.int64)
                is_control = np.array([np.isin(used, control_groups) for control_groups in of_sources.values()])
                target = np.array([target_index.get(groups[member].source, -1) for member in of_sources])
                yield make(selection, control, np.array(list(of_sources)), used, is_control, target)


def _p_texts(made: Sequence[Contrast], groups: Sequence[Group], resampling: Resampling) -> Iterator[Statistics]:
    """Yield p values, without the first axis; all are tested at once, as permuted effects are the same for all."""
    contributions = np.stack([resampling.contributions(group.sums) for group in groups], axis=1)

    def statistics(effects: NDArray[np.floating], sign: int) -> list[NDArray[np.floating]]:
        return [values for contrast in made for values in contrast.statistics(effects, sign=sign)]

    p_values = iter(resampling.permutation_test(contributions, statistics))
    for _ in made:
        yield Statistics(*islice(p_values, len(Statistics._fields)))
