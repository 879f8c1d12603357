"""Groups of neurons as like each other as an expert's are, but dealt at random: the control of experts."""

from ...queries.database import Database
from ..partitions.rows import Division, LayerNeurons, Origin
from ..partitions.sources import MATCHED_BINS, Source, permute_matched
from ..partitions.stored import StoredPartition, by_layer
from .series import Series

__all__ = ["matched_source"]


def matched_source(database: Database, series: Series, like: StoredPartition) -> Source:
    """Return the neurons of a partition, whose experts are to be dealt anew among neurons of like norm and firing rate.

    A score is the better of two directions, so that a neuron without any signal scores its noise, which depends on
    how often it fires. Experts of neurons of like firing rate look stable for that alone, and random groups do not;
    these do.

    Parameters
    ----------
    database
        The store's database.
    series
        The checkpoints; norms and firing rates are of the last.
    like
        A partition of neurons that the run of the last checkpoint measured.
    """
    last = series.last
    query = "select stack, layer, neuron, input_norm, firing_rate from neurons where run_id = ?"
    measured = by_layer(database.sql(query, [last.run_id]).arrow())

    def divide(each: LayerNeurons, seed: int) -> Division:
        columns = measured[each.stack, each.layer]
        norm, firing_rate = (columns[name][each.neurons] for name in ("input_norm", "firing_rate"))
        return permute_matched(like.layers[each.stack, each.layer]["expert"], norm, firing_rate, seed)

    return Source(
        Origin(series.model, last.revision, last.step, last.run_id),
        tuple(LayerNeurons(*key, columns["neuron"]) for key, columns in like.layers.items()),
        divide,
        provenance={"matched": like.partition_id, "n_bins": MATCHED_BINS},
    )
