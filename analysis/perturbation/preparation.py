"""A study about to be made: everything it needs, loaded and checked, and all its cells."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from ...errors import AnalysisError
from ...ingest.models.model import Model, body_parts, load
from ...progress import Progress
from ...queries.database import Database
from ...schema.identity import IDENTITY_VERSION, identifier
from ..lookup import Run
from ..neuron_rows import KEYS
from ..readouts.choice import ChoiceReadout
from ..readouts.loss import LossReadout
from ..readouts.probe import ProbeReadout
from ..readouts.readout import Readout
from ..readouts.texts import Subject, read_subject
from .cells import Cell, Ranking, plan_cells, rankings
from .kinds import LEVEL_COLUMNS
from .population import Population, read_population
from .request import Request, wanted_functions
from .settings import PerturbationSettings
from .sources import Source, expert_sources, query_sources, top_sources

__all__ = ["Study", "prepare"]


@dataclass(frozen=True, slots=True)
class Study:
    """A study about to be made.

    Parameters
    ----------
    perturbation_id
        Digest of all that defines it.
    database
        The store.
    run
        The run whose scores choose neurons.
    partition_id
        The partition whose experts are chosen, None if none.
    settings
        What defines the study.
    subject
        The model and the texts.
    readout
        What is read out.
    population, rankings, cells
        The studied neurons, those of each source and control, and the passes over the texts.
    n_sources
        How many sources there are.
    max_tokens
        Longest text in tokens.
    """

    perturbation_id: str
    database: Database
    run: Run
    partition_id: str | None
    settings: PerturbationSettings
    subject: Subject
    readout: Readout
    population: Population
    rankings: Sequence[Ranking]
    cells: Sequence[Cell]
    n_sources: int
    max_tokens: int

    @property
    def n_texts(self) -> int:
        """Texts run in a pass."""
        return self.subject.read.tokens.n_texts

    @property
    def model(self) -> Model:
        """The model that is perturbed."""
        return self.subject.model

    def neurons(self, cell: Cell) -> pa.Table:
        """Return what a cell perturbs, as `perturb` reads it: sorted, with what the kind holds each neuron at."""
        neurons = self.population.neurons[cell.rows]
        column = LEVEL_COLUMNS.get(self.settings.kind)
        if column is not None:
            levels = neurons[column] if cell.levels is None else pl.Series(cell.levels)
            neurons = neurons.with_columns(levels.cast(pl.Float64).alias(column))
        return neurons.select(*KEYS, *filter(None, [column])).sort(KEYS).to_arrow()

    def cell_id(self, cell: Cell | None) -> str:
        """Return the digest of all that defines a pass over the texts; None: without a perturbation."""
        definition: dict[str, object] = {
            "schema_version": IDENTITY_VERSION,
            "weights_sha256": self.model.weights_sha256,
            "readout_sha256": self.readout.sha256(),
            "batch_tokens": self.subject.batch_tokens,
            "of_equal_lengths": self.subject.of_equal_lengths,
            # Names, as values are found again by them; and what else may round or draw otherwise.
            "functions": self.readout.functions,
            "device": next(self.model.module.parameters()).device.type,
            "torch_version": torch.__version__,
        }
        if cell is not None:
            digest = hashlib.sha256()
            for column in self.neurons(cell).columns:
                digest.update(str(column.to_pylist()).encode())
            definition |= {
                "kind": self.settings.kind,
                "scale": self.settings.factor,
                "seed": cell.ranking.seed if self.settings.is_drawn else None,
                "neurons_sha256": digest.hexdigest(),
            }
        return identifier(definition)


def prepare(database: Database, request: Request, progress: Progress) -> Study:
    """Load the model, choose the neurons, read the corpus and fit the readout (see `study.study_perturbation`)."""
    found, partition_id, settings, device = request.run, request.partition_id, request.settings, request.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    assert found.dtype is not None  # the run was measured
    loaded = load(
        request.checkpoint,
        dtype=found.dtype,
        device=device,
        with_decoder=False,
        with_head=settings.readout != "probe",
        tokenizer=settings.tokenizer,
    )
    if loaded.weights_sha256 != found.weights_sha256:
        raise AnalysisError(
            f"the weights of {request.checkpoint.model} are not those that run {found.run_id} measured: "
            f"their digest is {loaded.weights_sha256[:16]}, not {str(found.weights_sha256)[:16]}"
        )
    subject = read_subject(
        loaded,
        request.corpus,
        n_texts=settings.n_texts,
        max_tokens=request.max_tokens,
        batch_tokens=settings.batch_tokens,
        # shuffle permutes over all tokens of a batch: padding among them would be put in place of activations.
        of_equal_lengths=settings.kind == "shuffle",
        seed=settings.seed,
    )
    readout = _readout(subject, settings)
    # Without a head the encoder of an encoder-decoder runs alone.
    parts = loaded.parts if loaded.head is None else body_parts(loaded.head)[1]
    population = read_population(
        database,
        found.run_id,
        stacks=[part.stack for part in parts],
        layers=settings.layers,
        by_native_expert=settings.kind == "route-away",
    )
    sources, nonfunctional = _sources(database, found, partition_id, population, readout, settings, progress)
    every = rankings(population, sources, nonfunctional, settings)
    study = Study(
        perturbation_id="",
        database=database,
        run=found,
        partition_id=partition_id,
        settings=settings,
        subject=subject,
        readout=readout,
        population=population,
        rankings=every,
        cells=plan_cells(population, every, settings, progress.note),
        n_sources=len(sources),
        max_tokens=request.max_tokens,
    )
    return dataclasses.replace(study, perturbation_id=_identifier(study))


def _readout(subject: Subject, settings: PerturbationSettings) -> Readout:
    match settings.readout:
        case "probe":
            return ProbeReadout(subject)
        case "loss":
            return LossReadout(subject)
        case "choice":
            return ChoiceReadout(subject)


def _sources(
    database: Database,
    run: Run,
    partition_id: str | None,
    population: Population,
    readout: Readout,
    settings: PerturbationSettings,
    progress: Progress,
) -> tuple[list[Source], np.ndarray | None]:
    """Return the sources, and the neurons of no functional expert, None where there are no experts."""
    if settings.query is not None:
        return query_sources(database, settings.query, population, settings.kind), None
    run_id = run.run_id
    measured = set(database.sql("select family, function from run_functions where run_id = ?", [run_id]).rows())
    functions = wanted_functions(
        [each for each in readout.functions if each in measured], settings, "the functions read out"
    )
    n_most = population.n_neurons(max(settings.doses or (1.0,)))
    if partition_id is None:
        return top_sources(database, run_id, population, functions, n_most), None
    sources, nonfunctional = expert_sources(database, run_id, partition_id, population, functions, n_most)
    functional = [source for source in sources if source.n_functional]
    if not functional:
        raise AnalysisError(f"partition {partition_id} has no expert that is functional for a function read out")
    if len(functional) < len(sources):
        progress.note(
            f"{len(sources) - len(functional):,} of {len(sources):,} functions have no functional expert, and are no "
            "sources"
        )
    return functional, nonfunctional


def _identifier(study: Study) -> str:
    chosen = hashlib.sha256()
    for each in study.rankings:
        chosen.update(f"{each.family} {each.function} {each.selection} {each.seed}\n".encode())
        chosen.update(study.population.neurons[each.rows].select(KEYS).write_csv().encode())
        chosen.update(b"" if each.levels is None else each.levels.tobytes())
    # As resolved: a default that is spelt out makes no other study.
    definition = dataclasses.asdict(study.settings) | {
        "schema_version": IDENTITY_VERSION,
        "model": study.model.name,
        "revision": study.model.revision,
        "run": study.run.run_id,
        "partition": study.partition_id,
        "corpus": study.subject.corpus.name,
        "baseline": study.cell_id(None),
        "scale": study.settings.factor,
        "controls": study.settings.controls_run,
        "max_tokens": study.max_tokens,
        "neurons_sha256": chosen.hexdigest(),
    }
    del definition["tokenizer"]  # the baseline stands for what it makes of the texts
    return identifier(definition)
