"""What a job would do: rows, bytes and time, before anything is written."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...progress import Progress, SilentProgress
from ...schema.store import Store
from ..corpora.stored import StoredCorpus
from ..models.checkpoint import Checkpoint
from .request import Request
from .settings import Coactivation, Resources, Settings

if TYPE_CHECKING:
    from .measurement import Measurement

__all__ = ["IngestPlan", "plan_ingest", "plan_measurement"]

# Bytes of a row of each table on disk, measured (docs/benchmarks.md).
_ROW_BYTES = {"neuron_functions": 30, "neurons": 22, "top_instances": 6, "routing": 20, "coactivations": 5}


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """What a job would do.

    Parameters
    ----------
    run_id, model, revision
        Keys the run would have.
    is_new
        False if the store already holds it.
    adds_coactivations
        Whether coactivations would be added.
    n_layers, n_neurons, n_functions, n_instances, n_texts, n_tokens, n_truncated, n_dropped
        What would be measured.
    n_rows
        Rows it would write, by table.
    parquet_bytes
        Their size on disk, estimated.
    activation_bytes
        Pooled activations to keep on disk until they are scored.
    forward_s
        Wall time of the forward passes, estimated from a few batches on this machine.
    """

    run_id: str
    model: str
    revision: str
    is_new: bool
    adds_coactivations: bool
    n_layers: int
    n_neurons: int
    n_functions: int
    n_instances: int
    n_texts: int
    n_tokens: int
    n_truncated: int
    n_dropped: int
    n_rows: dict[str, int]
    parquet_bytes: int
    activation_bytes: int
    forward_s: float

    def describe(self) -> str:
        """Return the plan as a few lines."""
        from rich.filesize import decimal

        # Of an instance tied at a neuron's minimum there is no row, and of a neuron never active with the other none.
        most = dict.fromkeys(("top_instances", "coactivations"), "up to ")
        rows = ", ".join(f"{most.get(table, '')}{n:,} {table}" for table, n in self.n_rows.items())
        status = "would be made"
        if not self.is_new:
            added = "coactivations would be added" if self.adds_coactivations else "nothing would be done"
            status = f"is already in the store: {added}"
        return "\n".join(
            [
                f"run {self.run_id} of {self.model} {self.revision} {status}",
                f"measured      {self.n_neurons:,} neurons in {self.n_layers} layers x {self.n_functions} functions "
                f"over {self.n_instances:,} instances of {self.n_texts:,} texts ({self.n_tokens:,} tokens)",
                f"left out      {self.n_truncated:,} texts cut at the token limit, {self.n_dropped:,} instances "
                "without a token",
                f"rows          {rows}",
                f"parquet       about {decimal(self.parquet_bytes)}",
                f"activations   {decimal(self.activation_bytes)} on disk until they are scored",
                f"forward pass  about {self.forward_s:,.0f} s on this machine",
            ]
        )


def plan_ingest(
    model: str,
    *,
    corpus: str,
    store: str | os.PathLike[str],
    revision: str | None = None,
    random_init: int | None = None,
    name: str | None = None,
    settings: Settings | None = None,
    resources: Resources | None = None,
    coactivation: Coactivation | None = None,
    progress: Progress | None = None,
) -> IngestPlan:
    """Say what `ingest_model` with the same arguments would do, without writing anything.

    Loads the model, tokenizes the corpus and times a few batches.
    """
    target = Store(store)
    request = Request(Checkpoint(model, revision, random_init, name), corpus, settings or Settings())
    stored = StoredCorpus(target, corpus)
    from .coactivations import adds_coactivations
    from .measurement import prepare

    work = prepare(request, stored, target, resources, progress or SilentProgress())
    return plan_measurement(work, coactivation, adds_coactivations=adds_coactivations(work, coactivation))


def plan_measurement(work: "Measurement", coactivation: Coactivation | None, *, adds_coactivations: bool) -> IngestPlan:
    """Say what measuring would write; `adds_coactivations` says whether those asked for are still to be added."""
    from .forward import estimate_seconds

    sizes = work.sizes()
    n_neurons, n_instances = sizes["n_neurons"], sizes["n_instances"]
    n_rows = {
        "neuron_functions": n_neurons * sizes["n_functions"],
        "neurons": n_neurons,
        "top_instances": n_neurons * min(work.settings.n_top, n_instances - 1),
    }
    if work.router is not None:
        n_rows["routing"] = sizes["n_functions"] * sum(layer.n_native_experts for layer in work.layers)
    is_new = work.store.commit(work.run_id) is None
    if coactivation is not None and adds_coactivations:
        n_pairs = sum(layer.n_neurons * min(coactivation.n_partners, layer.n_neurons - 1) for layer in work.layers)
        n_rows = (n_rows if is_new else {}) | {"coactivations": n_pairs}
    return IngestPlan(
        run_id=work.run_id,
        model=work.model.name,
        revision=work.model.revision,
        is_new=is_new,
        adds_coactivations=adds_coactivations,
        **sizes,
        n_texts=work.tokens.n_texts,
        n_tokens=work.tokens.n_tokens,
        n_truncated=work.tokens.n_truncated,
        n_dropped=work.tokens.n_dropped,
        n_rows=n_rows,
        parquet_bytes=sum(_ROW_BYTES[table] * n for table, n in n_rows.items()),
        activation_bytes=n_neurons * n_instances * np.dtype(work.settings.storage).itemsize,
        forward_s=estimate_seconds(work),
    )
