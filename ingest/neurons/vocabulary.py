"""The tokens that a neuron's weights stand for: the highest and lowest products of its weights with those of tokens."""

import torch

# Neurons and tokens of one product: at most 64 MB of it are in memory, whatever the vocabulary.
_NEURONS_TOGETHER = 512
_TOKENS_TOGETHER = 32_768


def extreme_tokens(vectors: torch.Tensor, tokens: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the places of the n highest products of each vector with tokens, then of the n lowest; and the products.

    Vectors are float32 [neurons, features], tokens of any floating-point type on any device [tokens, features]. Both
    results are on the CPU [neurons, 2 n], the furthest from zero of either end first.
    """
    n = min(n, len(tokens))
    found = [_extremes(block.to(tokens.device), tokens, n) for block in vectors.split(_NEURONS_TOGETHER)]  # type: ignore[no-untyped-call]
    place, product = (torch.cat(of).cpu() for of in zip(*found, strict=True))
    return place, product


def _extremes(block: torch.Tensor, tokens: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    ends: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    places: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for start in range(0, len(tokens), _TOKENS_TOGETHER):
        product = block @ tokens[start : start + _TOKENS_TOGETHER].float().T
        for is_highest in ends:
            values, index = product.topk(min(n, product.shape[1]), largest=is_highest)
            ends[is_highest].append(values)
            places[is_highest].append(index + start)
    best = {is_highest: torch.cat(of, 1).topk(n, largest=is_highest) for is_highest, of in ends.items()}
    place = [torch.cat(places[is_highest], 1).gather(1, index) for is_highest, (_, index) in best.items()]
    return torch.cat(place, 1), torch.cat([values for values, _ in best.values()], 1)
