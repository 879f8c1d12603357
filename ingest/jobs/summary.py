"""What a job did, for the person who asked for it."""

from dataclasses import dataclass

__all__ = ["IngestReport"]


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What a job did.

    Parameters
    ----------
    run_id, model, revision
        Keys of the run.
    is_new
        False if the store already held this measurement, so that it was not made.
    n_layers, n_neurons, n_functions, n_instances
        What the run holds.
    n_truncated, n_dropped
        Texts cut at the token limit, and instances left without a token.
    duration_s
        Wall time.
    activity
        When a neuron counts as active in the coactivations asked for; None if none were.
    adds_coactivations
        Whether they were added; False if the store already held them.
    """

    run_id: str
    model: str
    revision: str
    is_new: bool
    n_layers: int
    n_neurons: int
    n_functions: int
    n_instances: int
    n_truncated: int
    n_dropped: int
    duration_s: float
    activity: str | None = None
    adds_coactivations: bool = False

    def describe(self) -> str:
        """Return what was done as one line."""
        line = (
            f"run {self.run_id}: {self.model} {self.revision}, {self.n_neurons:,} neurons in {self.n_layers} layers x "
            f"{self.n_functions} functions over {self.n_instances:,} instances"
        )
        if self.n_truncated:
            line += f", {self.n_truncated:,} texts cut at the token limit"
        if self.n_dropped:
            line += f", {self.n_dropped:,} instances dropped for lack of a token"
        added = f"coactivations ({self.activity}) added, " if self.adds_coactivations else ""
        if self.is_new:
            return f"{line}, {added}{self.duration_s:.1f} s"
        if added:
            return f"{line}; already in the store, {added}{self.duration_s:.1f} s"
        held = "" if self.activity is None else f" with coactivations ({self.activity})"
        return f"{line}; already in the store{held}, nothing done"
