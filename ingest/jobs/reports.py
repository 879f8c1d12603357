"""What a job did or would do, for the person who asked for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...schema.vocabulary import Addition


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extent:
    """What a run holds, or would hold."""

    run_id: str
    model: str
    revision: str
    is_new: bool
    adds_coactivations: bool = False
    n_controls: int = 0
    additions: tuple[Addition, ...] = ()
    n_layers: int
    n_neurons: int
    n_functions: int
    n_instances: int
    n_truncated: int
    n_dropped: int

    @property
    def _grid(self) -> str:
        layers, functions = _counted(self.n_layers, "layer"), _counted(self.n_functions, "function")
        instances = _counted(self.n_instances, "instance")
        return f"{_counted(self.n_neurons, 'neuron')} in {layers} x {functions} over {instances}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport(_Extent):
    """What a job did.

    Parameters
    ----------
    run_id, model, revision
        Keys of the run.
    is_new
        False if the store already held this measurement, so that it was not made.
    adds_coactivations
        Whether coactivations were added; False if none were asked for or the store already held them.
    n_controls
        Sets of control functions that were added: draws of all tasks that the store lacked.
    additions
        Which of ``highlights`` and ``vocabulary`` were added.
    n_layers, n_neurons, n_functions, n_instances
        What the run holds.
    n_truncated, n_dropped
        Texts cut at the token limit, and instances left without a token.
    duration_s
        Wall time.
    activity
        When a neuron counts as active in the coactivations asked for; None if none were.
    """

    duration_s: float = 0.0
    activity: str | None = None

    def describe(self) -> str:
        """Return what was done as one line."""
        line = f"run {self.run_id}: {self.model} {self.revision}, {self._grid}"
        if self.n_truncated:
            line += f", {_counted(self.n_truncated, 'text')} cut at the token limit"
        if self.n_dropped:
            line += f", {_counted(self.n_dropped, 'instance')} dropped for lack of a token"
        added = f"coactivations ({self.activity}) added, " if self.adds_coactivations else ""
        added += f"{_counted(self.n_controls, 'set')} of control functions added, " if self.n_controls else ""
        added += "".join(f"{addition} added, " for addition in self.additions)
        if self.is_new:
            return f"{line}, {added}{self.duration_s:.1f} s"
        if added:
            return f"{line}; already in the store, {added}{self.duration_s:.1f} s"
        stored = "" if self.activity is None else f" with coactivations ({self.activity})"
        return f"{line}; already in the store{stored}, nothing done"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestPlan(_Extent):
    """What a job would do.

    Parameters
    ----------
    run_id, model, revision, is_new, adds_coactivations, n_controls, additions
        As in `IngestReport`.
    n_layers, n_neurons, n_functions, n_instances, n_truncated, n_dropped
        What would be measured, and what would be cut or dropped.
    n_texts, n_tokens
        What the model would read.
    n_rows
        Rows it would write, by table.
    parquet_bytes
        Their size on disk, estimated from one layer that is measured on activations of a few batches.
    activation_bytes
        Pooled activations to keep on disk until they are scored.
    memory_bytes
        Most memory of the process, estimated.
    forward_s
        Wall time of the forward passes, estimated from a few batches on this machine.
    scoring_s, controls_s
        Wall time of scoring, and what of it control functions add, estimated from the layer.
    additions_s
        Wall time of each addition, at most.
    cpu_s
        CPU seconds from loading to the commit, estimated, without keeping activations on disk.
    """

    n_texts: int
    n_tokens: int
    n_rows: dict[str, int]
    parquet_bytes: int
    activation_bytes: int
    memory_bytes: int
    forward_s: float
    scoring_s: float
    controls_s: float
    cpu_s: float
    additions_s: Mapping[Addition, float] = field(default_factory=dict)

    def describe(self) -> str:
        """Return the plan as a few lines."""
        from rich.filesize import decimal

        # An instance tied at a neuron's minimum has no row, nor have two neurons that are never active together.
        most = dict.fromkeys(("top_instances", "coactivations", "top_tokens"), "up to ")
        rows = ", ".join(f"{most.get(table, '')}{n:,} {table}" for table, n in self.n_rows.items())
        status = "would be made"
        if not self.is_new:
            added = ["coactivations"] * self.adds_coactivations
            added += [_counted(self.n_controls, "set") + " of control functions"] * bool(self.n_controls) + [
                *self.additions
            ]
            would = f"{' and '.join(added)} would be added" if added else "nothing would be done"
            status = f"is already in the store: {would}"
        texts, tokens = _counted(self.n_texts, "text"), _counted(self.n_tokens, "token")
        cut, dropped = _counted(self.n_truncated, "text"), _counted(self.n_dropped, "instance")
        return "\n".join(
            [
                f"run {self.run_id} of {self.model} {self.revision} {status}",
                f"measured      {self._grid} of {texts} ({tokens})",
                f"not measured  {cut} cut at the token limit, {dropped} without a token",
                f"rows          {rows}",
                f"parquet       about {decimal(self.parquet_bytes)}",
                f"activations   {decimal(self.activation_bytes)} on disk until they are scored",
                f"memory        about {decimal(self.memory_bytes)} at most",
                f"forward pass  about {self.forward_s:,.0f} s on this machine",
                f"scoring       about {self.scoring_s:,.0f} s, {self.controls_s:,.0f} s of it for control functions",
                *(f"{name:12}  about {duration_s:,.0f} s" for name, duration_s in self.additions_s.items()),
                f"processors    about {self.cpu_s:,.0f} s in all, from loading to the commit",
            ]
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A revision that could not be measured, and the reason as one line."""

    revision: str
    reason: str

    def describe(self) -> str:
        """Return revision and reason as one line."""
        return f"revision {self.revision}: {self.reason}"


Outcome = IngestReport | IngestPlan | Failure


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """What became of each checkpoint of a series, in the order measured."""

    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The revisions that could not be measured."""
        return tuple(outcome for outcome in self.outcomes if isinstance(outcome, Failure))

    @property
    def plans(self) -> tuple[IngestPlan, ...]:
        """What a dry run would make."""
        return tuple(outcome for outcome in self.outcomes if isinstance(outcome, IngestPlan))

    def describe(self) -> str:
        """Return what a dry run would make in all, and how many revisions failed, and which, as one line."""
        from rich.filesize import decimal

        line = f"{len(self.failures)} of {len(self.outcomes)} revisions failed"
        failed = ", ".join(failure.revision for failure in self.failures)
        line = f"{line}: {failed}" if failed else line
        if not self.plans:
            return line
        n_rows = sum(sum(plan.n_rows.values()) for plan in self.plans)
        n_bytes, cpu_s = (sum(getattr(plan, name) for plan in self.plans) for name in ("parquet_bytes", "cpu_s"))
        memory = max(plan.memory_bytes for plan in self.plans)
        return (
            f"in all up to {n_rows:,} rows, about {decimal(n_bytes)} of parquet, {cpu_s:,.0f} s of processors, and "
            f"{decimal(memory)} of memory in each worker; {line}"
        )


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
