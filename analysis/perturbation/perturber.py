"""What each kind of perturbation puts in place of activations."""

import torch

from ...schema.vocabulary import ActivationKind

__all__ = ["Perturber"]


class Perturber:
    """One kind of perturbation, and the draws it goes on with from batch to batch.

    Parameters
    ----------
    kind
        What is done.
    scale
        Factor of the noise, or of the shuffled activations; 1 for the other kinds.
    seed
        Of draws: each device has a generator of its own, so that the caller's random state stays as it is.
    """

    def __init__(self, kind: ActivationKind, *, scale: float, seed: int) -> None:
        self._kind = kind
        self._scale = scale
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def perturb(self, values: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Return what selected neurons go on with.

        Parameters
        ----------
        values
            Their activations. [..., neurons]
        levels
            What `LEVEL_COLUMNS` says of them, 0 where the kind needs nothing, in float32. [neurons]
        """
        match self._kind:
            case "zero" | "mean" | "clamp":
                return levels.to(values.dtype).expand_as(values)
            case "noise":
                drawn = torch.randn(values.shape, generator=self._generator(values.device), device=values.device)
                return (values + self._scale * levels * drawn).to(values.dtype)
            case "shuffle":
                order = torch.randperm(values.numel(), generator=self._generator(values.device), device=values.device)
                return values.reshape(-1)[order].reshape(values.shape) * self._scale

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]
