"""The neurons that a study selects from and draws controls from, and how much each of them writes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...queries.database import Database
from ..neuron_rows import KEYS

_NEAREST = 10  # in energy: a matched unit is drawn among so many


@dataclass(frozen=True, slots=True)
class Population:
    """Neurons, sorted by stack, layer and neuron; a row of the population stands for a neuron elsewhere."""

    neurons: pl.DataFrame  # columns stack, layer, neuron, mean and std
    layer: NDArray[np.int64]  # number of each neuron's layer, 0 for the first studied [neurons]
    unit_size: int  # neurons, which lie together, that are drawn as one: those of a native expert ablated whole, or 1
    # How much each neuron writes to the residual stream: mean square of its pooled activation times the squared norm of
    # its output weights [neurons]
    energy: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.energy)

    def n_neurons(self, dose: float) -> int:
        """Return the number of neurons of a dose, a share of all: whole units, at least one."""
        return max(1, round(dose * len(self) / self.unit_size)) * self.unit_size

    def rows(self, keys: pl.DataFrame, owner: str) -> NDArray[np.int64]:
        """Return the rows of neurons by stack, layer and neuron; refuse those of `owner` that are not there."""
        typed = pl.col("stack").cast(pl.String), pl.col("layer", "neuron").cast(pl.Int64)
        own = self.neurons.select(*typed).with_row_index("row")
        joined = keys.select(*typed).join(own, on=KEYS, how="left", maintain_order="left")
        for stack, layer, neuron in joined.filter(pl.col("row").is_null()).select(KEYS).head(1).rows():
            layers = self.neurons.select("stack", "layer").unique(maintain_order=True).rows()
            problem = f"{owner} yields {stack} layer {layer}, neuron {neuron}, which is not among the neurons studied"
            raise AnalysisError(f"{problem}; these are of {', '.join(f'{stack} {layer}' for stack, layer in layers)}")
        return joined["row"].cast(pl.Int64).to_numpy()

    def draw_random(self, rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """Return some rows, of whole units, in random order with each unit together: the first n are n at random."""
        units, place = np.unique(rows // self.unit_size, return_inverse=True)
        order = np.random.default_rng((seed, 0)).permutation(len(units))
        return rows[np.argsort(order[place], kind="stable")]

    def draw_matched(self, ranking: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """Return, for each ranked neuron, an unranked neuron of the same layer and of similar energy.

        In order of rank; shorter than the ranking if a layer has no unit left that is neither ranked nor taken.
        """
        generator, size = np.random.default_rng((seed, 1)), self.unit_size
        layer = self.layer[::size]
        energy = np.add.reduceat(self.energy, np.arange(0, len(self), size))
        ranked_units = list(dict.fromkeys((ranking // size).tolist()))
        # By layer, its free units sorted by energy; a unit that is taken is cut out.
        free: dict[int, NDArray[np.int64]] = {}
        for number in np.unique(layer[ranked_units]).tolist():
            units = np.setdiff1d(np.flatnonzero(layer == number), ranked_units)
            free[number] = units[np.argsort(energy[units], kind="stable")]
        matched: list[int] = []
        for unit in ranked_units:
            candidates = free[int(layer[unit])]
            if not len(candidates):
                break
            middle = int(np.searchsorted(energy[candidates], energy[unit]))
            low = max(0, min(middle - _NEAREST // 2, len(candidates) - _NEAREST))
            place = low + int(generator.integers(len(candidates[low : low + _NEAREST])))
            matched.append(int(candidates[place]))
            free[int(layer[unit])] = np.delete(candidates, place)
        return (np.array(matched, dtype=np.int64)[:, None] * size + np.arange(size)).reshape(-1)


def read_population(
    database: Database, run_id: str, *, stacks: Sequence[str], layers: tuple[int, ...] | None, by_native_expert: bool
) -> Population:
    """Read the neurons of a run in some stacks and layers, or those of native experts alone, which are then units."""
    neurons = database.ask("perturbation_population", run=run_id, stacks=list(stacks)).pl()
    if layers is not None:
        check_layers(run_id, layers, set(neurons["layer"].unique()))
        neurons = neurons.filter(pl.col("layer").is_in(layers))
    if by_native_expert:
        neurons = neurons.filter(pl.col("native_expert").is_not_null())
        if lost := sorted(set(layers or ()) - set(neurons["layer"].unique())):
            raise AnalysisError(f"run {run_id} has no native experts in layer {lost}")
    if neurons.is_empty():
        what = "neurons of native experts in these layers" if by_native_expert else "neurons"
        raise AnalysisError(f"run {run_id} has no {what}")
    unit = pl.struct("stack", "layer", "native_expert" if by_native_expert else "neuron")
    sizes = neurons.select(unit.rle().struct.field("len").unique().sort()).to_series()
    if len(sizes) > 1:
        problem = f"the native experts of run {run_id} have {sizes[0]:,} to {sizes[-1]:,} neurons"
        raise AnalysisError(f"{problem}; a study takes layers with experts of one size")
    layer = neurons.select(pl.struct("stack", "layer").rle_id().cast(pl.Int64)).to_series().to_numpy()
    return Population(neurons.drop("native_expert", "energy"), layer, sizes[0], neurons["energy"].to_numpy())


def check_layers(run_id: str, layers: Collection[int], measured: Collection[int]) -> None:
    """Refuse layers that a run did not measure, with an `AnalysisError`."""
    if unknown := sorted(set(layers) - set(measured)):
        raise AnalysisError(f"run {run_id} has no layer {unknown}; it measured {sorted(measured)}")
