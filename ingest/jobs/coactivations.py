"""Which neurons of a layer are active on the same instances: exact counts of pairs, the closest partners kept.

A layer's activity is a matrix of bits, [neurons, instances / 64] words of 64 bits: 8 MB for 3,072 neurons on 20,000
instances, 8 GB for 65,536 on a million. Two neurons' instances in common are the bits set in both rows, counted word
by word. A row's counts last until its closest partners are found, so that no table of neurons by neurons ever is.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numba import njit
from numpy.typing import NDArray

from ...errors import IngestError, StoreError, one_line
from ...schema.job import Job
from ...schema.tables import table
from ..neurons.feed_forwards import Layer
from ..scores.scoring import NonFiniteError
from .measurement import PART_ROWS, Measurement
from .rows import RunKeys
from .settings import Coactivation

__all__ = ["CoactivationTables", "Partners", "active_bits", "adds_coactivations", "closest_partners"]

# Neurons whose counts are taken together, so that each word of another neuron serves them all: `_count_both` writes
# them out.
_TILE = 4


@dataclass(frozen=True, slots=True)
class Partners:
    """The closest partners of a layer's neurons.

    Parameters
    ----------
    n_active
        Instances on which each neuron is active. [neurons]
    partner
        Its partners, closest first, -1 where there are no more. [neurons, partners]
    n_both
        Instances on which both are active, 0 where there is no partner. [neurons, partners]
    """

    n_active: NDArray[np.int64]
    partner: NDArray[np.int32]
    n_both: NDArray[np.int64]


class CoactivationTables:
    """Stages the coactivations of a run as its layers' activations come.

    Parameters
    ----------
    work
        The measurement they belong to.
    coactivation
        What to measure.
    job
        The job to stage them in.
    """

    def __init__(self, work: Measurement, coactivation: Coactivation, job: Job) -> None:
        self._keys = work.keys
        self._coactivation = coactivation
        self.job = job
        self._n_highest = coactivation.n_highest(len(work.tokens.instance_id))
        self._bits = np.empty((0, 0), dtype=np.uint64)
        self._found: list[pa.Table] = []
        # Parts of their own: their rows do not grow with the functions, as those of the run's parts do.
        parts: dict[int, list[Layer]] = {}
        n_rows = 0
        for layer in work.layers:
            parts.setdefault(n_rows // PART_ROWS, []).append(layer)
            n_rows += layer.n_neurons * coactivation.n_partners
        self._parts = {n: part for n, part in parts.items() if not job.is_staged("coactivations", n)}

    def lacks(self, layer: Layer) -> bool:
        """Return whether no earlier attempt staged a layer's coactivations."""
        return any(layer is each for part in self._parts.values() for each in part)

    def add(self, layer: Layer, first: int, activations: NDArray[np.float32]) -> None:
        """Take the activations of some neurons of a layer.

        Parameters
        ----------
        layer
            The layer.
        first
            Index of the first of the neurons; blocks come in order, from 0 on.
        activations
            [neurons, instances]

        Raises
        ------
        NonFiniteError
            If an activation is NaN or infinite.
        """
        bits = active_bits(activations, n_highest=self._n_highest)
        if first == 0:
            self._bits = np.empty((layer.n_neurons, bits.shape[1]), dtype=np.uint64)
        self._bits[first : first + len(bits)] = bits

    def finish(self, layer: Layer) -> None:
        """Find the partners of a layer all of whose neurons were added; with the last of its part, stage them.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        partners = closest_partners(self._bits, self._coactivation.n_partners, n_threads=torch.get_num_threads())
        self._found.append(_rows(self._keys, self._coactivation.activity, layer, partners))
        number = next((number for number, part in self._parts.items() if layer is part[-1]), None)
        if number is not None:
            rows, model, revision = pa.concat_tables(self._found), self._keys.model, self._keys.revision
            self.job.write("coactivations", rows, part=number, model=model, revision=revision)
            self._found = []


def adds_coactivations(work: Measurement, coactivation: Coactivation | None) -> bool:
    """Return whether coactivations are to be added to a run: False if none are asked for, or the store holds them.

    Raises
    ------
    IngestError
        If the share of the instances is less than one of them, or the store holds the run's coactivations with
        another number of partners, so that the two would overlap.
    StoreError
        If a file cannot be read.
    """
    if coactivation is None or work.store.commit(coactivation.job_name(work.run_id)) is not None:
        return False
    coactivation.n_highest(len(work.tokens.instance_id))
    files = [str(path) for path in work.store.files("coactivations")]
    if not files:
        return True
    same = [("run_id", "=", work.run_id), ("activity", "=", coactivation.activity)]
    neuron = ["stack", "layer", "neuron"]
    try:
        stored = pq.read_table(files, columns=neuron, filters=same, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"cannot read the coactivations of {work.store.path}: {one_line(error)}") from error
    if len(stored):
        n_stored = max(stored.group_by(neuron).aggregate([([], "count_all")])["count_all"].to_pylist())
        raise IngestError(
            f"the store holds coactivations ({coactivation.activity}) of run {work.run_id} already, with up to "
            f"{n_stored} partners a neuron; {coactivation.n_partners} cannot stand beside them"
        )
    return True


def active_bits(activations: NDArray[np.float32], *, n_highest: int | None = None) -> NDArray[np.uint64]:
    """Say on which instances each neuron is active, a bit an instance; bits beyond the last instance are 0.

    Parameters
    ----------
    activations
        Pooled activations. [neurons, instances]
    n_highest
        Count a neuron as active where its activation is above its (n_highest + 1)-th highest, so on n_highest
        instances, or fewer where there are ties at the cut; where it is positive if None.

    Returns
    -------
    array
        [neurons, instances / 64 rounded up]

    Raises
    ------
    NonFiniteError
        If an activation is NaN or infinite.
    """
    n_neurons, n_instances = activations.shape
    if not np.isfinite(activations).all():
        neuron, instance = np.argwhere(~np.isfinite(activations))[0].tolist()
        raise NonFiniteError(float(activations[neuron, instance]), neuron, instance)
    if n_highest is None:
        is_active = activations > 0
    else:
        cut = n_instances - n_highest - 1
        is_active = activations > np.partition(activations, cut, axis=1)[:, cut, None]
    packed = np.zeros((n_neurons, -(-n_instances // 64) * 8), dtype=np.uint8)
    packed[:, : -(-n_instances // 8)] = np.packbits(is_active, axis=1)
    return packed.view(np.uint64)


def closest_partners(bits: NDArray[np.uint64], n_partners: int, *, n_threads: int = 1) -> Partners:
    """Find each neuron's closest partners among the others that are active with it on some instance.

    Closeness is the Jaccard index, n_both / (n_active + n_active_partner - n_both), compared exactly, as fractions;
    of two equally close the one with the lower index comes first.

    Parameters
    ----------
    bits
        Where each neuron is active, from `active_bits`. [neurons, words]
    n_partners
        Partners to keep.
    n_threads
        Threads to spread the neurons over; the result does not depend on it.
    """
    n_neurons = len(bits)
    shape = (n_neurons, min(n_partners, n_neurons))
    found = Partners(
        n_active=np.bitwise_count(bits).sum(axis=1, dtype=np.int64),
        partner=np.full(shape, -1, dtype=np.int32),
        n_both=np.zeros(shape, dtype=np.int64),
    )

    def run(first: int, last: int) -> None:
        _find_partners(bits, found.n_active, first, last, found.partner, found.n_both)

    bounds = np.linspace(0, n_neurons, 4 * n_threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(run, bounds[:-1], bounds[1:]))
    return found


def _rows(keys: RunKeys, activity: str, layer: Layer, partners: Partners) -> pa.Table:
    neuron, place = np.nonzero(partners.partner >= 0)
    n = len(neuron)
    partner = partners.partner[neuron, place]
    columns = {
        "run_id": _constant(keys.run_id, n),
        "model": _constant(keys.model, n),
        "revision": _constant(keys.revision, n),
        "step": pa.repeat(pa.scalar(keys.step, pa.int64()), n),
        "activity": _constant(activity, n),
        "stack": _constant(layer.stack, n),
        "layer": pa.repeat(pa.scalar(layer.layer, pa.int16()), n),
        "neuron": pa.array(neuron.astype(np.int32)),
        "partner": pa.array(partner),
        "n_both": pa.array(partners.n_both[neuron, place]),
        "n_active": pa.array(partners.n_active[neuron]),
        "n_active_partner": pa.array(partners.n_active[partner]),
    }
    return pa.table({name: columns[name] for name in table("coactivations").column_names})


def _constant(value: str, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), n), pa.array([value]))


@njit(nogil=True, cache=True)
def _find_partners(
    bits: NDArray[np.uint64],
    n_active: NDArray[np.int64],
    first: int,
    last: int,
    partner: NDArray[np.int32],
    n_both: NDArray[np.int64],
) -> None:
    """Fill the last two arrays' rows of some neurons."""
    counts = np.empty((_TILE, len(bits)), dtype=np.int64)  # [tile, neurons]
    for start in range(first, last, _TILE):
        _count_both(bits, start, counts)
        for neuron in range(start, min(start + _TILE, last)):
            _take_closest(neuron, counts[neuron - start], n_active, partner[neuron], n_both[neuron])


@njit(nogil=True, cache=True)
def _count_both(bits: NDArray[np.uint64], start: int, counts: NDArray[np.int64]) -> None:
    """Count, for a tile of neurons, the bits that each has in common with every neuron."""
    end = len(bits) - 1  # the last neuron again, where there are no four left
    row_a = bits[start]
    row_b = bits[min(start + 1, end)]
    row_c = bits[min(start + 2, end)]
    row_d = bits[min(start + 3, end)]
    for other in range(len(bits)):
        n_a = n_b = n_c = n_d = np.uint64(0)
        row = bits[other]
        for index in range(len(row)):
            word = row[index]
            n_a += _count_ones(row_a[index] & word)
            n_b += _count_ones(row_b[index] & word)
            n_c += _count_ones(row_c[index] & word)
            n_d += _count_ones(row_d[index] & word)
        counts[0, other] = n_a
        counts[1, other] = n_b
        counts[2, other] = n_c
        counts[3, other] = n_d


@njit(nogil=True, cache=True)
def _count_ones(word: np.uint64) -> np.uint64:
    """Count the ones of a word in parallel: of pairs, of fours, of bytes; the product adds up the bytes.

    LLVM knows the idiom and takes the processor's own instruction, vectors of them where there are.
    """
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(nogil=True, cache=True)
def _take_closest(
    neuron: int,
    counts: NDArray[np.int64],
    n_active: NDArray[np.int64],
    partner: NDArray[np.int32],
    n_both: NDArray[np.int64],
) -> None:
    """Insert into a sorted list what is closer than its last; fractions are compared by their cross products."""
    n_kept = 0
    for other in range(len(counts)):
        both = counts[other]
        if other == neuron or both == 0:
            continue
        either = n_active[neuron] + n_active[other] - both
        place = n_kept
        while place > 0:
            above = place - 1
            either_above = n_active[neuron] + n_active[partner[above]] - n_both[above]
            if both * either_above <= n_both[above] * either:
                break
            if place < len(partner):
                partner[place], n_both[place] = partner[above], n_both[above]
            place = above
        if place < len(partner):
            partner[place], n_both[place] = other, both
            n_kept = min(n_kept + 1, len(partner))
