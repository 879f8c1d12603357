"""The scores of `kernel`, of many neurons at once on a GPU.

A GPU that has run the model would wait for the CPU to score, which for a model of 8 billion parameters takes longer
than the forward pass. Overlap alone would not do: scores need all instances, so that within a checkpoint nothing is
left to run beside them. So a block is sorted where the model is, and the walk becomes sums along rows.

A function's labels are sorted by rank too, as one key of function, rank and label. As a function has as many labels for
every neuron, a column of the sorted keys is of the same function in every row, and sums over its columns are its sums.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from ..corpora.labels import LabelIndex

# Neurons times instances, or labels, that are taken at a time: some 25 numbers of 8 bytes each.
_TOGETHER = 1 << 22


class DeviceWalk:
    """Scores neurons for the functions of some labels on a torch device that knows float64."""

    def __init__(self, labels: LabelIndex, device: torch.device) -> None:
        def on_device(values: NDArray[np.generic]) -> torch.Tensor:
            return torch.tensor(values, device=device)

        by_function = np.argsort(labels.function, kind="stable")
        function = labels.function[by_function].astype(np.int64)
        sizes = np.bincount(function, minlength=len(labels.functions))
        self._instance = on_device(labels.instance[by_function])  # of each label, those of a function together [labels]
        self._is_positive = on_device(labels.is_positive[by_function].astype(np.int64))  # [labels]
        self._function = on_device(function)  # [labels]
        self._is_rest = on_device(labels.is_rest)  # [functions]
        self._start = on_device(np.cumsum(sizes) - sizes)  # its first label [functions]
        self._stop = on_device(np.cumsum(sizes))  # one past its last [functions]
        self._in_b = on_device(labels.half.astype(np.int64))  # [instances]
        self._counts = on_device(labels.counts().astype(np.float64))  # positive, evaluated [functions, 3, 2]

    def score_neurons(self, activations: NDArray[np.float32], *filled: NDArray[np.generic]) -> None:
        """Fill scores, n_above, excess, statistics, top instances and their values, as `kernel.score_neurons` does."""
        size = max(1, _TOGETHER // max(activations.shape[1], len(self._instance)))
        for start in range(0, len(activations), size):
            some = torch.from_numpy(activations[start : start + size]).to(self._in_b.device)
            for array, values in zip(filled, self._of(some, filled[-1].shape[1]), strict=True):
                array[start : start + size] = values.cpu().numpy()

    def _of(self, activations: torch.Tensor, n_top: int) -> tuple[torch.Tensor, ...]:
        n = activations.shape[1]
        values, order = activations.sort(dim=1, descending=True, stable=True)
        wide = values.double()
        place = torch.arange(n, device=values.device).expand_as(order)
        begins, ends = _runs(values[:, 1:] != values[:, :-1])  # of each rank's tie group, counted from 0
        in_b = self._in_b[order]
        # T of all instances, of half a and of half b, and the sum of 1 / T above the group [3, neurons, instances]
        b_so_far = in_b.cumsum(1).gather(1, ends)
        seen = torch.stack([ends + 1, ends + 1 - b_so_far, b_so_far]).double()
        member = torch.stack([torch.ones_like(in_b), 1 - in_b, in_b])
        terms = torch.where(member == 1, 1 / seen, 0.0)
        harmonic = (terms.cumsum(2) - terms).gather(2, begins.expand_as(seen))
        h_all = terms.sum(2)  # [3, neurons]
        # The first group that holds as many as are below it, but a single instance only if it is the last.
        size = ends + 1 - begins
        is_rest_group = ((size > 1) & (size >= n - 1 - ends)) | (ends == n - 1)
        at_rest = torch.where(is_rest_group, begins, n).amin(1, keepdim=True)  # [neurons, 1]

        # The labels of each function by rank: [neurons, labels] from here on.
        rank_of = torch.empty_like(order).scatter_(1, order, place)
        keys = ((self._function * n + rank_of[:, self._instance]) << 1) | self._is_positive
        keys = keys.sort(dim=1).values
        positive = keys & 1
        rank = (keys >> 1) - self._function * n
        begin, end = begins.gather(1, rank), ends.gather(1, rank)
        is_other = (begin[:, 1:] != begin[:, :-1]) | (self._function[1:] != self._function[:-1])
        first, last = _runs(is_other)  # of the labels of one function in one tie group
        side = in_b.gather(1, rank)
        of_side = torch.stack([torch.ones_like(side), 1 - side, side])
        true = self._so_far(of_side * positive, last).double()
        evaluated = self._so_far(of_side, last).double()
        is_rest = self._is_rest[self._function]
        total = torch.where(is_rest, seen.gather(2, rank.expand_as(true)), evaluated)
        counted = of_side == 1
        precision = torch.where(counted & (positive == 1), true / total, 0.0)
        above = harmonic.gather(2, rank.expand_as(true))
        # Over rest functions H above the positives, over explicit ones what the negatives add to the complement's AP.
        other = torch.where(is_rest, above, 1 - true / total)
        other = torch.where(counted & (is_rest | (positive == 0)), other, 0.0)
        before = (first - self._start[self._function]).double()
        mean_rank = torch.where(is_rest, begin + end + 2.0, before + evaluated[0] + 1) / 2
        value = wide.gather(1, rank)

        n_positive, n_evaluated = self._counts.unbind(2)
        n_negative = n_evaluated - n_positive  # [functions, 3]
        average_sum, other_sum = self._sum(precision), self._sum(other)  # [3, neurons, functions]
        positives, negatives = n_positive.T[:, None], n_negative.T[:, None]  # [3, 1, functions]
        rest_sum = negatives - (positives * h_all[..., None] - other_sum) + average_sum
        has_both = (positives > 0) & (negatives > 0)
        ap = torch.where(has_both, average_sum / positives, torch.nan)
        complement = torch.where(has_both, torch.where(self._is_rest, rest_sum, other_sum) / negatives, torch.nan)
        rank_sum, of_positives = self._sum(mean_rank * positive), self._sum(value * positive)
        of_all = torch.where(self._is_rest, wide.sum(1, keepdim=True), self._sum(value))
        p, q = n_positive[:, 0], n_negative[:, 0]
        auroc = 1 - (rank_sum - p * (p + 1) / 2) / (p * q)
        means = of_positives / p, (of_all - of_positives) / q
        scores = torch.stack([ap[0], complement[0], auroc, *means, ap[1], ap[2], complement[1], complement[2]], 2)

        is_above = (rank < at_rest).double()
        true_above, label = self._sum(is_above * positive), self._sum(is_above * precision[0])
        n_above = torch.where(self._is_rest, at_rest.double(), self._sum(is_above))
        h_at_rest = harmonic[0].gather(1, at_rest)
        other_above = self._sum(is_above * other[0])
        rest = n_above - true_above - (true_above * h_at_rest - other_above) + label
        of_complement = torch.where(self._is_rest, rest, other_above)
        share = p / (p + q)
        excess = [label - true_above * share, of_complement - (n_above - true_above) * (1 - share)]

        mean = wide.mean(1)
        deviation = (wide - mean[:, None]).square().mean(1).sqrt()
        statistics = torch.stack([mean, deviation, wide[:, -1], wide[:, 0], (wide > 0).double().mean(1)], 1)
        top_value, top = torch.zeros((2, len(values), n_top), device=values.device)
        k = min(n_top, n)
        is_top = values[:, :k] > values[:, -1:]
        top_value[:, :k] = torch.where(is_top, values[:, :k], 0.0)
        top = torch.full_like(top, -1, dtype=torch.int64)
        top[:, :k] = torch.where(is_top, order[:, :k], -1)
        return scores, n_above.long(), torch.stack(excess, 2), statistics, top, top_value

    def _so_far(self, marks: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """Return how many labels of the function are marked, up to the end of the tie group [3, neurons, labels]."""
        so_far = torch.nn.functional.pad(marks.cumsum(2), (1, 0))
        return so_far.gather(2, (last + 1).expand_as(marks)) - so_far[..., self._start[self._function]]

    def _sum(self, of_labels: torch.Tensor) -> torch.Tensor:
        """Sum the last axis by function: [..., labels] to [..., functions]."""
        sums = torch.nn.functional.pad(of_labels.cumsum(-1), (1, 0))
        return sums[..., self._stop] - sums[..., self._start]


def _runs(is_other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first and last column of the run each column is in, given whether each but the first begins one."""
    place = torch.arange(is_other.shape[1] + 1, device=is_other.device)
    begins = torch.where(torch.nn.functional.pad(is_other, (1, 0), value=True), place, 0)
    ends = torch.where(torch.nn.functional.pad(is_other, (0, 1), value=True), place, len(place))
    return begins.cummax(1).values, ends.flip(1).cummin(1).values.flip(1)
