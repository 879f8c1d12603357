"""Seeds of single layers."""

import numpy as np

__all__ = ["layer_seed"]

_STACKS = ("encoder", "decoder")


def layer_seed(seed: int, stack: str, layer: int) -> int:
    """Return the seed of one layer, 32 bits: what is drawn for it is the same whichever other layers there are."""
    return int(np.random.SeedSequence([seed, _STACKS.index(stack), layer]).generate_state(1)[0])
