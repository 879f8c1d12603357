"""The walk down one neuron's sorted activations that scores it for every function, compiled by numba.

The average precision of activations ``a`` for labels ``y`` with P positives is, ties included,
``1/P * sum over positives i of TP_i / T_i`` with ``T_i = #{a >= a_i}`` and ``TP_i`` the positives among them
(scikit-learn's ``average_precision_score``). ``T_i`` does not depend on the labels. So each neuron is sorted
once, and one walk down the sorted instances visits only their labels:

- the positives' terms add up to AP; with ``H_i`` the sum of ``1/T`` over instances above i's tie group and
  ``H`` over all, ``sum over all i of TP_i / T_i = sum over positives j of (H - H_j)``, which gives the
  complement's AP without visiting its positives;
- the positives' ranks give the AUROC, and the first k instances are the top instances;
- the instances tied at the minimum (a ReLU's zeros) are one tie group, added in closed form and never sorted;
- for p-values (`nulls`), the sums are also taken down to where the neuron is at rest: the first tie group from the top
  that holds at least as many instances as are below it, counted as one group with all below it. These are a ReLU's
  zeros, or the instances that were not routed to the neuron's expert.

A function with explicit negatives counts T over its own instances, in the same walk. Each half has counters of its own
for the same sums, for a tie group is one within a half too.

Nothing here checks bounds or types: `scoring.score` does, before it calls. Places in arrays are unsigned numbers: of a
signed one numba asks at each use whether it is negative, and so counts from the end.
"""

import numpy as np
from numba import njit

# Accumulators of one function in the walk. The first three are over all instances; 4 further on, the same over half a,
# and 8 further on over half b.
_TRUE = np.uint64(0)  # positives so far
_AP = np.uint64(1)  # sum over positives of TP / T
_REST = np.uint64(2)  # rest: sum over positives of H above them; explicit: sum over negatives of (T - TP) / T
_RANK = np.uint64(3)  # sum over positives of their mean rank from the top
_SUM_POSITIVE = np.uint64(7)  # sum over positives of the activation
# Explicit functions only: they count their own instances.
_SUM = np.uint64(11)  # sum over evaluated instances of the activation
_SEEN = np.uint64(12)  # evaluated instances so far: of all, half a and half b
_BEFORE = np.uint64(15)  # evaluated instances before the present tie group
_N_ACCUMULATORS = 16
_HALF = np.uint64(4)  # how far the sums of a half are from those before it
_ONE = np.uint64(1)


@njit(nogil=True, cache=True, error_model="numpy")
def score_neurons(activations, is_rest, packed, counts, filled) -> None:
    """Fill the arrays of `filled`, a row a neuron, from the others (see `scoring.score` and `LabelIndex.packed`)."""
    words, starts, entries = packed
    scores, n_above, excess, statistics, top_instance, top_value = filled
    n_neurons, n_instances = activations.shape
    keys = np.empty(n_instances, dtype=np.uint64)
    spare = np.empty(n_instances, dtype=np.uint64)
    accumulators = np.empty((len(is_rest), _N_ACCUMULATORS), dtype=np.float64)
    for neuron in range(n_neurons):
        values = activations[neuron]
        total, bits_set = _describe(values, statistics[neuron])
        order = _sort_above(values, bits_set, statistics[neuron], words, keys, spare)
        _take_top(values, order, top_instance[neuron], top_value[neuron])
        accumulators[:] = 0.0
        at_rest = n_above[neuron], excess[neuron]
        sums = _walk(order, n_instances, is_rest, starts, entries, counts, accumulators, at_rest)
        _finish(accumulators, sums, statistics[neuron, 2], total, len(order), is_rest, counts, scores[neuron])


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc"})
def _describe(values, statistics):
    """Fill the statistics; return the sum, and the bits that are set in any activation."""
    # Loops of one reduction each, over indices, so that the compiler takes several activations at once.
    bits_of = values.view(np.uint32)
    total = 0.0
    for instance in range(len(values)):
        total += values[instance]
    mean = total / len(values)
    squares = 0.0
    for instance in range(len(values)):
        squares += (values[instance] - mean) * (values[instance] - mean)
    n_firing = 0
    for instance in range(len(values)):
        n_firing += values[instance] > 0
    least, most, bits_set = np.uint32(0xFFFFFFFF), np.uint32(0), np.uint32(0)
    for instance in range(len(values)):
        bits = _descending(values[instance])
        least = min(least, bits)
        most = max(most, bits)
        bits_set |= bits_of[instance]
    statistics[0] = mean
    statistics[1] = np.sqrt(squares / len(values))
    statistics[2] = _ascending(most)
    statistics[3] = _ascending(least)
    statistics[4] = n_firing / len(values)
    return total, bits_set


@njit(nogil=True, cache=True, error_model="numpy")
def _sort_above(values, bits_set, statistics, words, keys, spare):
    """Return the keys of the instances above the minimum, highest first, in one of the last two arrays."""
    # A key holds the activation's order-preserving bits, inverted, above the instance's word (`LabelIndex.packed`): a
    # stable radix sort of the upper half, least significant digit first, by as many bits as the activations differ in.
    lowest, highest = statistics[2], statistics[3]
    n_above = np.uint64(0)
    for instance in range(len(values)):  # without a branch: no processor foresees which values are above
        value = values[instance]
        keys[n_above] = (np.uint64(_descending(value)) << np.uint64(32)) | np.uint64(words[instance])
        n_above += np.uint64(value > lowest)
    shift = np.uint32(0)  # bits that are 0 in all, as are the lowest of values that were kept in 16
    while shift < 31 and not (bits_set >> shift) & np.uint32(1):
        shift += np.uint32(1)
    least = _descending(highest) >> shift
    span = np.uint64((_descending(lowest) >> shift) - least)
    n_bits = 0
    while span >> np.uint64(n_bits):
        n_bits += 1
    n_digits = -(-n_bits // 11)
    width = np.uint32(-(-n_bits // max(n_digits, 1)))
    mask = (np.uint32(1) << width) - np.uint32(1)
    counts = np.empty(2048, dtype=np.uint32)
    source, target = keys, spare
    for digit in range(n_digits):
        below = np.uint32(digit) * width
        counts[:] = 0
        for index in range(n_above):
            counts[(((np.uint32(source[index] >> np.uint64(32)) >> shift) - least) >> below) & mask] += 1
        start = np.uint32(0)
        for bucket in range(mask + np.uint32(1)):
            size = counts[bucket]
            counts[bucket] = start
            start += size
        for index in range(n_above):
            key = source[index]
            bucket = (((np.uint32(key >> np.uint64(32)) >> shift) - least) >> below) & mask
            place = np.uint64(counts[bucket])
            target[place] = key
            counts[bucket] = place + _ONE
        source, target = target, source
    return source[:n_above]


@njit(nogil=True, cache=True, error_model="numpy")
def _descending(value):
    """Return the bits of an activation as a number that falls as activations rise."""
    bits = np.float32(value + np.float32(0)).view(np.int32)  # -0.0 and 0.0 are one activation
    return np.uint32(bits ^ (np.int32(0x7FFFFFFF) & ~(bits >> np.int32(31))))


@njit(nogil=True, cache=True, error_model="numpy")
def _activation_of(key):
    """Take an activation back out of its key."""
    return _ascending(np.uint32(key >> np.uint64(32)))


@njit(nogil=True, cache=True, error_model="numpy")
def _ascending(descending):
    """Return the activation of the bits that `_descending` made of it."""
    bits = np.int32(descending)
    return np.int32(bits ^ (np.int32(0x7FFFFFFF) & ~(bits >> np.int32(31)))).view(np.float32)


@njit(nogil=True, cache=True, error_model="numpy")
def _take_top(values, order, top_instance, top_value):
    """Fill the instances with the highest activations, equal ones in the order of the instances."""
    n_top = min(len(top_instance), len(order))
    if n_top == 0:
        return
    least = _activation_of(order[n_top - 1])
    n_found = 0
    for instance in range(len(values)):
        value = values[instance]
        if value < least or (n_found == n_top and value <= top_value[n_top - 1]):
            continue
        n_found = min(n_found + 1, n_top)
        rank = n_found - 1
        while rank > 0 and top_value[rank - 1] < value:
            top_value[rank] = top_value[rank - 1]
            top_instance[rank] = top_instance[rank - 1]
            rank -= 1
        top_value[rank] = value
        top_instance[rank] = instance


@njit(nogil=True, cache=True, error_model="numpy")
def _count_positive(sums, side):
    """Count one positive of the present tie group."""
    sums[_TRUE] += 1.0
    sums[_TRUE + _HALF + _HALF * side] += 1.0


@njit(nogil=True, cache=True, error_model="numpy")
def _count(accumulators, code, side, is_rest):
    """Count one label of the present tie group."""
    sums = accumulators[code >> _ONE]
    if code & _ONE:
        _count_positive(sums, side)
    if not is_rest[code >> _ONE]:
        sums[_SEEN] += 1.0
        sums[_SEEN + _ONE + side] += 1.0


@njit(nogil=True, cache=True, error_model="numpy")
def _add_positive(sums, side, value, rank, inverse, inverse_half, above, above_half):
    """Add the terms of one positive of a ``rest`` function, whose tie group has been counted."""
    # `inverse` is 1 / T and `above` the sum of 1 / T above the group, over all instances and over the half.
    half = _HALF + _HALF * side
    sums[_AP] += sums[_TRUE] * inverse
    sums[_AP + half] += sums[_TRUE + half] * inverse_half
    sums[_REST] += above
    sums[_REST + half] += above_half
    sums[_RANK] += rank
    sums[_SUM_POSITIVE] += value


@njit(nogil=True, cache=True, error_model="numpy")
def _add(accumulators, code, side, is_rest, value, rank, inverse, inverse_half, above, above_half):
    """Add the terms of one label whose tie group has been counted."""
    sums = accumulators[code >> _ONE]
    if is_rest[code >> _ONE]:
        _add_positive(sums, side, value, rank, inverse, inverse_half, above, above_half)
        return
    half = _HALF + _HALF * side
    sums[_SUM] += value
    if code & _ONE:
        sums[_AP] += sums[_TRUE] / sums[_SEEN]
        sums[_AP + half] += sums[_TRUE + half] / sums[_SEEN + _ONE + side]
        sums[_RANK] += 0.5 * (sums[_BEFORE] + 1.0 + sums[_SEEN])
        sums[_SUM_POSITIVE] += value
    else:
        sums[_REST] += 1.0 - sums[_TRUE] / sums[_SEEN]
        sums[_REST + half] += 1.0 - sums[_TRUE + half] / sums[_SEEN + _ONE + side]


@njit(nogil=True, cache=True, error_model="numpy")
def _walk(order, n_instances, is_rest, starts, entries, counts, accumulators, at_rest):
    """Fill the accumulators and sums at rest; return instances seen and the sum of 1 / T: of all, halves a and b."""
    has_explicit = not is_rest.all()
    n_simple = np.uint64(0 if has_explicit else 2 * len(is_rest))  # rows of which the number is the only label
    n_order, n_all = np.uint64(len(order)), np.uint64(n_instances)
    seen_b = before_a = before_b = np.uint64(0)
    # Of all instances, half a and half b; looked up by half, without a branch that no processor foresees.
    harmonic = np.zeros(3)
    inverses = np.empty(2)  # 1 / T in each half
    is_above_rest = True
    start = np.uint64(0)
    while start < n_order:
        key = order[start]
        stop = start + _ONE
        while stop < n_order and (order[stop] ^ key) >> np.uint64(32) == 0:
            stop += _ONE
        if is_above_rest and stop > start + _ONE and stop - start >= n_all - stop:
            _take_at_rest(accumulators, np.int64(start), harmonic[0], is_rest, counts, at_rest)
            is_above_rest = False
        # Count the whole group before adding its terms, and add them all before moving on: a term must see all of its
        # own group at its T, and none of it above.
        for index in range(start, stop):
            row, side = _row_of(order[index])
            seen_b += side
            if row < n_simple:
                _count_positive(accumulators[row >> _ONE], side)
            else:
                for entry in range(starts[row], starts[row + _ONE]):
                    _count(accumulators, np.uint64(entries[entry]), side, is_rest)
        seen_a = stop - seen_b
        value = _activation_of(key)
        rank = 0.5 * (start + _ONE + stop)
        inverse = 1.0 / stop
        inverses[0] = 1.0 / max(seen_a, _ONE)
        inverses[1] = 1.0 / max(seen_b, _ONE)
        above = harmonic[0]
        for index in range(start, stop):
            row, side = _row_of(order[index])
            inverse_half, above_half = inverses[side], harmonic[_ONE + side]
            if row < n_simple:
                sums = accumulators[row >> _ONE]
                _add_positive(sums, side, value, rank, inverse, inverse_half, above, above_half)
            else:
                for entry in range(starts[row], starts[row + _ONE]):
                    code = np.uint64(entries[entry])
                    _add(accumulators, code, side, is_rest, value, rank, inverse, inverse_half, above, above_half)
        if has_explicit:
            for index in range(start, stop):
                row, _ = _row_of(order[index])
                for entry in range(starts[row], starts[row + _ONE]):
                    sums = accumulators[np.uint64(entries[entry]) >> _ONE]
                    sums[_BEFORE] = sums[_SEEN]
        harmonic[0] += (stop - start) / stop
        harmonic[1] += (seen_a - before_a) / max(seen_a, _ONE)
        harmonic[2] += (seen_b - before_b) / max(seen_b, _ONE)
        before_a, before_b = seen_a, seen_b
        start = stop
    if is_above_rest:
        _take_at_rest(accumulators, len(order), harmonic[0], is_rest, counts, at_rest)
    return np.array([n_order, before_a, before_b]), harmonic


@njit(nogil=True, cache=True, error_model="numpy")
def _row_of(key):
    """Return the row of labels of the instance behind a key, and its half: 0 or 1."""
    return (key & np.uint64(0xFFFFFFFF)) >> _ONE, key & _ONE


@njit(nogil=True, cache=True, error_model="numpy")
def _take_at_rest(accumulators, seen, harmonic, is_rest, counts, at_rest):
    """Fill the number of instances above rest, and the excess of P * AP, and of the complement, over chance."""
    n_above, excess = at_rest
    for index in range(len(is_rest)):
        sums = accumulators[index]
        positives = counts[index, 0, 0]
        evaluated = counts[index, 0, 1]
        negatives = evaluated - positives
        above = seen if is_rest[index] else sums[_SEEN]
        n_above[index] = above
        excess[index, 0] = sums[_AP] - sums[_TRUE] * positives / evaluated
        if is_rest[index]:
            # As in `_finish`: over the instances above, TP / T adds up to the H below each positive.
            every = sums[_TRUE] * harmonic - sums[_REST]
            complement = above - sums[_TRUE] - every + sums[_AP]
        else:
            complement = sums[_REST]
        excess[index, 1] = complement - (above - sums[_TRUE]) * negatives / evaluated


@njit(nogil=True, cache=True, error_model="numpy")
def _finish(accumulators, sums_of_all, lowest, total, n_above, is_rest, counts, scores):
    """Add the group tied at the minimum in closed form and turn sums into scores."""
    seen, harmonic = sums_of_all
    for index in range(len(is_rest)):
        sums = accumulators[index]
        rest = is_rest[index]
        for side in range(3):
            positives = counts[index, side, 0]
            evaluated = counts[index, side, 1]
            negatives = evaluated - positives
            half = np.uint64(side) * _HALF
            left = positives - sums[_TRUE + half]  # positives in the bottom group
            average = np.nan
            complement = np.nan
            if positives > 0 and negatives > 0:
                average = (sums[_AP + half] + left * positives / evaluated) / positives
                if rest:
                    n_bottom = evaluated - seen[side]
                    h_above = sums[_REST + half] + left * harmonic[side]
                    h_all = harmonic[side] + n_bottom / evaluated
                    # Over all instances TP / T adds up to P * H - (the H above each positive).
                    complement = (negatives - (positives * h_all - h_above) + positives * average) / negatives
                else:
                    left_negative = negatives - (sums[_SEEN + np.uint64(side)] - sums[_TRUE + half])
                    complement = (sums[_REST + half] + left_negative * negatives / evaluated) / negatives
            if side == 0:
                before = n_above if rest else sums[_SEEN]
                ranks = sums[_RANK] + left * 0.5 * (before + 1.0 + evaluated)
                sum_positive = sums[_SUM_POSITIVE] + left * lowest
                sum_all = total if rest else sums[_SUM] + (evaluated - sums[_SEEN]) * lowest
                scores[index, 0] = average
                scores[index, 1] = complement
                scores[index, 2] = 1.0 - (ranks - 0.5 * positives * (positives + 1.0)) / (positives * negatives)
                scores[index, 3] = sum_positive / positives
                scores[index, 4] = (sum_all - sum_positive) / negatives
            else:
                scores[index, 4 + side] = average
                scores[index, 6 + side] = complement
