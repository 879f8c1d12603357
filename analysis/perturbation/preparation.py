"""A study that is ready to run: the loaded model, the fitted readout, the neurons, and all cells."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...ingest.models.model import Model, body_parts, load
from ...progress import Progress
from ...schema.identity import IDENTITY_VERSION, identifier
from ...schema.vocabulary import ReadoutKind
from ..neuron_rows import KEYS
from ..readouts.choice import ChoiceReadout
from ..readouts.loss import LossReadout
from ..readouts.probe import ProbeReadout
from ..readouts.readout import Readout
from ..readouts.texts import Texts, read_texts
from .ablation import experts_per_token
from .cells import comparable, plan_cells, rankings
from .population import Population, read_population
from .request import Request, wanted_functions
from .settings import ENERGY_RATIO, LEVEL_COLUMNS, ROUTING, PerturbationSettings
from .sources import Ranking, expert_sources, query_sources, top_sources

READOUTS: Mapping[ReadoutKind, Callable[[Texts], Readout]] = {
    "probe": ProbeReadout,
    "loss": LossReadout,
    "choice": ChoiceReadout,
}
"""The class of each readout."""


@dataclass(frozen=True, slots=True)
class Study:
    """A study that is ready to run."""

    request: Request  # what the study asks for
    # The loaded model with its texts, and what is read out
    texts: Texts
    readout: Readout
    # The studied neurons, and those of each source and control
    population: Population
    rankings: Sequence[Ranking]
    cells: Sequence[Ranking]  # the neurons of each pass over the texts, beside the pass without an ablation
    is_compared: Sequence[bool]  # whether the effect of each cell is compared with others (see `comparable`)

    @property
    def settings(self) -> PerturbationSettings:
        """The settings of the study."""
        return self.request.settings

    @property
    def model(self) -> Model:
        """The model whose neurons are ablated."""
        return self.texts.model

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of sources, of functions read out, and of instances and texts, as reports and tables name them."""
        own = (self.settings.selection, self.settings.seed)
        return {
            "n_sources": sum((ranking.selection, ranking.seed) == own for ranking in self.rankings),
            "n_targets": len(self.readout.functions),
            "n_instances": len(self.readout.instance_id),
            "n_texts": self.texts.read.tokens.n_texts,
        }

    def neurons(self, cell: Ranking) -> pa.Table:
        """Return the neurons of a cell as `ablate` reads them: sorted, with the column that the kind needs."""
        neurons = self.population.neurons[cell.rows]
        column = LEVEL_COLUMNS.get(self.settings.kind)
        if column is None:
            return neurons.select(KEYS).sort(KEYS).to_arrow()
        levels = neurons[column] if cell.levels is None else pl.Series(cell.levels)
        return neurons.select(*KEYS, levels.cast(pl.Float64).alias(column)).sort(KEYS).to_arrow()

    def cell_id(self, cell: Ranking | None) -> str:
        """Return the digest of everything that defines a pass over the texts; None is the pass without an ablation."""
        definition: dict[str, object] = {
            "schema_version": IDENTITY_VERSION,
            "weights_sha256": self.model.weights_sha256,
            "readout_sha256": self.readout.sha256,
            "batch_tokens": self.texts.batch_tokens,
            "of_equal_lengths": self.texts.of_equal_lengths,
            # Stored values are looked up by these names; devices and versions of torch round and draw differently.
            "functions": self.readout.functions,
            "device": next(self.model.module.parameters()).device.type,
            "torch_version": torch.__version__,
        }
        if cell is not None:
            neurons = "".join(str(column.to_pylist()) for column in self.neurons(cell).columns)
            definition |= {
                "kind": self.settings.kind,
                "scale": self.settings.factor,
                "seed": cell.seed if self.settings.is_drawn else None,
                "neurons_sha256": hashlib.sha256(neurons.encode()).hexdigest(),
            }
        return identifier(definition)

    def identifier(self) -> str:
        """Return the digest of everything that defines the study, its perturbation_id."""
        settings, chosen = self.settings, hashlib.sha256()
        for ranking in self.rankings:
            chosen.update(f"{ranking.family} {ranking.function} {ranking.selection} {ranking.seed}\n".encode())
            chosen.update(self.population.neurons[ranking.rows].select(KEYS).write_csv().encode())
            chosen.update(b"" if ranking.levels is None else ranking.levels.tobytes())
        # As resolved: a default that is spelt out makes no other study.
        definition = dataclasses.asdict(settings) | {
            "schema_version": IDENTITY_VERSION,
            "model": self.model.name,
            "revision": self.model.revision,
            "run": self.request.run.run_id,
            "partition": self.request.partition_id,
            "corpus": self.texts.corpus.name,
            "baseline": self.cell_id(None),
            "scale": settings.factor,
            "controls": settings.controls_run,
            "max_tokens": self.request.max_tokens,
            "neurons_sha256": chosen.hexdigest(),
        }
        del definition["tokenizer"]  # the baseline stands for what it makes of the texts
        # Studies made before there were these settings keep their ids.
        for name, default in (("energy_ratio", ENERGY_RATIO), ("ranking", "lift")):
            if definition[name] == default:
                del definition[name]
        return identifier(definition)


def prepare(request: Request, device: str, progress: Progress) -> Study:
    """Load the model, fit the readout, and select the neurons; errors are those of `study.study_perturbation`."""
    settings = request.settings
    assert request.run.dtype is not None  # the run was measured
    model = load(
        request.checkpoint,
        dtype=request.run.dtype,
        device=device,
        with_decoder=False,
        with_head=settings.readout != "probe",
        tokenizer=settings.tokenizer,
    )
    if model.weights_sha256 != request.run.weights_sha256:
        raise AnalysisError(
            f"the weights of {request.checkpoint.model} are not those that run {request.run.run_id} measured: "
            f"their digest is {model.weights_sha256[:16]}, not {str(request.run.weights_sha256)[:16]}"
        )
    texts = read_texts(
        model,
        request.corpus,
        n_texts=settings.n_texts,
        max_tokens=request.max_tokens,
        batch_tokens=settings.batch_tokens,
        # shuffle permutes over all tokens of a batch: padding among them would be put in place of activations.
        of_equal_lengths=settings.kind == "shuffle",
        seed=settings.seed,
    )
    readout = READOUTS[settings.readout](texts)
    # Without a head the encoder of an encoder-decoder runs alone.
    parts = model.parts if model.head is None else body_parts(model.head)[1]
    population = read_population(
        request.database,
        request.run.run_id,
        stacks=[part.stack for part in parts],
        layers=settings.layers,
        by_native_expert=settings.kind in ROUTING,
    )
    sources, nonfunctional = _sources(request, population, readout, progress)
    ranked = rankings(population, sources, nonfunctional, settings)
    n_least = experts_per_token(readout.model) if settings.kind == "route-only" else 0
    cells = plan_cells(population, ranked, settings, progress.note, n_least=n_least)
    is_compared = comparable(population, cells, settings, progress.note)
    return Study(request, texts, readout, population, ranked, cells, is_compared)


def _sources(
    request: Request, population: Population, readout: Readout, progress: Progress
) -> tuple[list[Ranking], NDArray[np.int64] | None]:
    """Return the sources, and the neurons of experts that are functional for nothing, None without experts."""
    database, settings, run_id = request.database, request.settings, request.run.run_id
    if settings.query is not None:
        return query_sources(database, settings.query, population, settings.kind), None
    measured = set(database.sql("select family, function from run_functions where run_id = ?", [run_id]).rows())
    readable = [function for function in readout.functions if function in measured]
    functions = wanted_functions(readable, settings, "the functions read out")
    n_most = population.n_neurons(max(settings.doses or (1.0,)))
    if request.partition_id is None:
        return top_sources(request, population, functions, n_most), None
    sources, nonfunctional = expert_sources(request, population, functions, n_most)
    functional = [source for source in sources if source.n_functional]
    if not functional:
        raise AnalysisError(
            f"partition {request.partition_id} has no expert that is functional for a function read out"
        )
    if len(functional) < len(sources):
        progress.note(
            f"{len(sources) - len(functional):,} of {len(sources):,} functions have no functional expert, and are no "
            "sources"
        )
    return functional, nonfunctional
