"""The neurons that a study draws from: those of the studied layers, and how much passes through each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...queries.database import Database
from ..neuron_rows import KEYS

__all__ = ["Population", "check_layers", "read_population"]


@dataclass(frozen=True, slots=True)
class Population:
    """Neurons, sorted by stack, layer and neuron; others name them by their row here.

    Parameters
    ----------
    neurons
        Columns stack, layer, neuron, mean and std.
    layer
        Which layer each is in, 0 for the first studied. [neurons]
    unit
        What is drawn as one: the neuron itself, or its native expert where the router is told to avoid experts.
        Numbered in the order of rows; a unit's neurons lie together, and all have as many. [neurons]
    energy
        Mean square of each neuron's pooled activation times the squared norm of its output weights: how much it writes
        to the residual stream. [neurons]
    """

    neurons: pl.DataFrame
    layer: NDArray[np.int64]
    unit: NDArray[np.int64]
    energy: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.unit)

    @property
    def unit_size(self) -> int:
        """Neurons of a unit."""
        return len(self) // (int(self.unit[-1]) + 1)

    def n_neurons(self, dose: float) -> int:
        """Return how many neurons a share of all is: whole units, one at least."""
        return max(1, round(dose * len(self) / self.unit_size)) * self.unit_size

    def rows(self, keys: pl.DataFrame, owner: str) -> NDArray[np.int64]:
        """Return the rows of some neurons, in their order.

        Parameters
        ----------
        keys
            Columns stack, layer and neuron.
        owner
            Whose neurons they are, as an error names them.

        Raises
        ------
        AnalysisError
            If a neuron is not among the studied ones.
        """
        keys = keys.select(pl.col("stack").cast(pl.String), pl.col("layer", "neuron").cast(pl.Int64))
        found = keys.join(
            self.neurons.select(pl.col("stack"), pl.col("layer", "neuron").cast(pl.Int64)).with_row_index("row"),
            on=KEYS,
            how="left",
            maintain_order="left",
        )
        absent = found.filter(pl.col("row").is_null())
        if absent.height:
            stack, layer, neuron = absent.select(KEYS).row(0)
            layers = self.neurons.select("stack", "layer").unique(maintain_order=True).rows()
            raise AnalysisError(
                f"{owner} yields {stack} layer {layer}, neuron {neuron}, which is not among the neurons studied; these "
                f"are of {', '.join(f'{stack} {layer}' for stack, layer in layers)}"
            )
        return found["row"].cast(pl.Int64).to_numpy()


def read_population(
    database: Database,
    run_id: str,
    *,
    stacks: Sequence[str],
    layers: tuple[int, ...] | None,
    by_native_expert: bool,
) -> Population:
    """Read the neurons of a run.

    Parameters
    ----------
    database
        The store.
    run_id
        A run of the site activation.
    stacks
        Stacks of the model that runs.
    layers
        Layers to study; None for all measured.
    by_native_expert
        Whether whole native experts are drawn; then neurons outside of any are left out.

    Raises
    ------
    AnalysisError
        If the run lacks a layer asked for, has no neurons or no native experts, or experts of several sizes.
    """
    query = """
        select stack, layer, neuron, native_expert, mean, std,
            (mean::double ** 2 + std::double ** 2) * output_norm::double ** 2 as energy,
        from neurons
        where run_id = ? and list_contains(?, stack)
        order by stack, layer, neuron
    """
    neurons = database.sql(query, [run_id, list(stacks)]).pl()
    if layers is not None:
        check_layers(run_id, layers, set(neurons["layer"].unique()))
        neurons = neurons.filter(pl.col("layer").is_in(layers))
    if by_native_expert:
        neurons = neurons.filter(pl.col("native_expert").is_not_null())
        lost = sorted(set(layers or ()) - set(neurons["layer"].unique()))
        if lost:
            raise AnalysisError(f"run {run_id} has no native experts in layer {lost}")
    if neurons.is_empty():
        what = "neurons of native experts in these layers" if by_native_expert else "neurons"
        raise AnalysisError(f"run {run_id} has no {what}")
    parts = pl.struct("stack", "layer", "native_expert" if by_native_expert else "neuron")
    unit = neurons.select(parts.rle_id().cast(pl.Int64)).to_series().to_numpy()
    sizes = np.unique(np.bincount(unit))
    if len(sizes) > 1:
        raise AnalysisError(
            f"the native experts of run {run_id} have {sizes[0]:,} to {sizes[-1]:,} neurons; a study takes layers with "
            "experts of one size"
        )
    return Population(
        neurons=neurons.drop("native_expert", "energy"),
        layer=neurons.select(pl.struct("stack", "layer").rle_id().cast(pl.Int64)).to_series().to_numpy(),
        unit=unit,
        energy=neurons["energy"].to_numpy(),
    )


def check_layers(run_id: str, layers: Collection[int], measured: Collection[int]) -> None:
    """Refuse layers that are not among those that a run measured.

    Raises
    ------
    AnalysisError
        If one is not.
    """
    unknown = sorted(set(layers) - set(measured))
    if unknown:
        raise AnalysisError(f"run {run_id} has no layer {unknown}; it measured {sorted(measured)}")
