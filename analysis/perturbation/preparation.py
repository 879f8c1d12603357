"""A study that is ready to run: the loaded model, the fitted readout, the neurons, and all cells."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import torch

from ...errors import AnalysisError
from ...ingest.models.model import Model, body_parts, load
from ...progress import Progress
from ...schema.names import IDENTITY_VERSION, identifier
from ...schema.vocabulary import ReadoutKind
from ..neuron_rows import KEYS
from ..readouts.choice import ChoiceReadout
from ..readouts.loss import LossReadout
from ..readouts.probe import ProbeReadout
from ..readouts.readout import Readout, Texts, read_texts
from .ablation import experts_per_token
from .population import Population, read_population
from .settings import ENERGY_RATIO, LEVEL_COLUMNS, ROUTING, PerturbationSettings
from .sources import Ranking, comparable, find_sources, plan_cells, rankings
from .study import Request

_READOUTS: Mapping[ReadoutKind, Callable[[Texts], Readout]]
_READOUTS = {readout.kind: readout for readout in (ChoiceReadout, LossReadout, ProbeReadout)}


@dataclass(frozen=True, slots=True)
class Study:
    """A study that is ready to run."""

    request: Request
    texts: Texts  # with the loaded model
    readout: Readout
    population: Population
    rankings: Sequence[Ranking]  # the neurons of each source and control
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
        n_sources = sum((ranking.selection, ranking.seed) == own for ranking in self.rankings)
        functions = {"n_sources": n_sources, "n_targets": len(self.readout.functions)}
        return functions | {"n_instances": len(self.readout.instance_id), "n_texts": self.texts.read.tokens.n_texts}

    def neurons(self, cell: Ranking) -> pa.Table:
        """Return the neurons of a cell as `ablate` reads them: sorted, with the column that the kind needs."""
        neurons, column = self.population.neurons[cell.rows], LEVEL_COLUMNS.get(self.settings.kind)
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
            seed = cell.seed if self.settings.is_drawn else None
            definition |= {"kind": self.settings.kind, "scale": self.settings.factor, "seed": seed}
            definition["neurons_sha256"] = hashlib.sha256(neurons.encode()).hexdigest()
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
    settings, run, checkpoint, database = request.settings, request.run, request.checkpoint, request.database
    assert run.dtype is not None  # the run was measured
    head, tokenizer = settings.readout != "probe", settings.tokenizer
    model = load(checkpoint, dtype=run.dtype, device=device, with_decoder=False, with_head=head, tokenizer=tokenizer)
    if model.weights_sha256 != run.weights_sha256:
        problem = f"the weights of {checkpoint.model} are not those that run {run.run_id} measured"
        digest, measured = model.weights_sha256[:16], str(run.weights_sha256)[:16]
        raise AnalysisError(f"{problem}: their digest is {digest}, not {measured}")
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
    readout = _READOUTS[settings.readout](texts)
    # Without a head the encoder of an encoder-decoder runs alone.
    parts = model.parts if model.head is None else body_parts(model.head)[1]
    stacks, is_whole = [part.stack for part in parts], settings.kind in ROUTING
    population = read_population(database, run.run_id, stacks=stacks, layers=settings.layers, by_native_expert=is_whole)
    sources, nonfunctional = find_sources(request, population, readout.functions, progress)
    ranked = rankings(population, sources, nonfunctional, settings)
    n_least = experts_per_token(readout.model) if settings.kind == "route-only" else 0
    cells = plan_cells(population, ranked, settings, progress.note, n_least=n_least)
    is_compared = comparable(population, cells, settings, progress.note)
    return Study(request, texts, readout, population, ranked, cells, is_compared)
