"""What a job did or would do, for the person who asked for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...errors import plural
from ...schema.vocabulary import Addition


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extent:
    run_id: str
    model: str
    revision: str
    is_new: bool  # whether the store lacks this run, or lacked it
    adds_coactivations: bool = False
    n_controls: int = 0  # sets of control functions to add: draws of all tasks
    additions: tuple[Addition, ...] = ()  # those to add
    n_layers: int
    n_neurons: int
    n_functions: int
    n_instances: int
    n_truncated: int  # texts cut at the token limit
    n_dropped: int  # instances left without a token

    @property
    def _grid(self) -> str:
        layers, functions = plural(self.n_layers, "layer"), plural(self.n_functions, "function")
        instances = plural(self.n_instances, "instance")
        return f"{plural(self.n_neurons, 'neuron')} in {layers} x {functions} over {instances}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport(_Extent):
    """What a job did."""

    duration_s: float = 0.0  # wall time
    activity: str | None = None  # when a neuron counts as active in the coactivations asked for; None if none were

    def describe(self) -> str:
        """Return what was done as one line."""
        line = f"run {self.run_id}: {self.model} {self.revision}, {self._grid}"
        line += f", {plural(self.n_truncated, 'text')} cut at the token limit" if self.n_truncated else ""
        line += f", {plural(self.n_dropped, 'instance')} dropped for lack of a token" if self.n_dropped else ""
        added = f"coactivations ({self.activity}) added, " if self.adds_coactivations else ""
        added += f"{plural(self.n_controls, 'set')} of control functions added, " if self.n_controls else ""
        added += "".join(f"{addition} added, " for addition in self.additions)
        if self.is_new:
            return f"{line}, {added}{self.duration_s:.1f} s"
        if added:
            return f"{line}; already in the store, {added}{self.duration_s:.1f} s"
        stored = "" if self.activity is None else f" with coactivations ({self.activity})"
        return f"{line}; already in the store{stored}, nothing done"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestPlan(_Extent):
    """What a job would do; times and sizes are estimates from a few batches and one layer, on this machine."""

    n_texts: int
    n_tokens: int
    n_rows: dict[str, int]  # rows to write, by table
    parquet_bytes: int  # their size on disk
    activation_bytes: int  # pooled activations to keep on disk until they are scored
    memory_bytes: int  # most memory of the process
    forward_s: float  # wall time of the forward passes
    scoring_s: float  # wall time of scoring
    controls_s: float  # what of it control functions add
    cpu_s: float  # CPU time from loading to the commit, without keeping activations on disk
    additions_s: Mapping[Addition, float] = field(default_factory=dict)  # wall time of each, at most

    def describe(self) -> str:
        """Return the plan as a few lines."""
        from rich.filesize import decimal

        # An instance tied at a neuron's minimum has no row, nor have two neurons that are never active together.
        most = dict.fromkeys(("top_instances", "coactivations", "top_tokens"), "up to ")
        rows = ", ".join(f"{most.get(table, '')}{n:,} {table}" for table, n in self.n_rows.items())
        status = "would be made"
        if not self.is_new:
            added = ["coactivations"] * self.adds_coactivations
            added += [f"{plural(self.n_controls, 'set')} of control functions"] * bool(self.n_controls)
            added += self.additions
            would = f"{' and '.join(added)} would be added" if added else "nothing would be done"
            status = f"is already in the store: {would}"
        texts, tokens = plural(self.n_texts, "text"), plural(self.n_tokens, "token")
        cut, dropped = plural(self.n_truncated, "text"), plural(self.n_dropped, "instance")
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
        line += ": " * bool(self.failures) + ", ".join(failure.revision for failure in self.failures)
        if not self.plans:
            return line
        n_rows = sum(sum(plan.n_rows.values()) for plan in self.plans)
        n_bytes, cpu_s = (sum(getattr(plan, name) for plan in self.plans) for name in ("parquet_bytes", "cpu_s"))
        made = f"{n_rows:,} rows, about {decimal(n_bytes)} of parquet, {cpu_s:,.0f} s of processors"
        memory = decimal(max(plan.memory_bytes for plan in self.plans))
        return f"in all up to {made}, and {memory} of memory in each worker; {line}"
