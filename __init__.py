"""neuronlake: the analysis database for the neurons of transformers.

>>> import neuronlake
>>> store = neuronlake.open("neuronlake-store")  # doctest: +SKIP
>>> store.sql("select * from best_predictivity").pl()  # doctest: +SKIP

The public names are below; they are imported when first used, so that ``import neuronlake`` is quick.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .analysis.alignment.job import align_partition
    from .analysis.cards import describe_expert, describe_neuron
    from .analysis.emergence.settings import EmergenceSettings
    from .analysis.emergence.study import study_emergence
    from .analysis.partitions.chance import RandomPartition
    from .analysis.partitions.graph import GraphPartition
    from .analysis.partitions.job import partition_model
    from .analysis.partitions.kmeans import BalancedKMeans
    from .analysis.partitions.settings import PartitionSettings
    from .analysis.perturbation.ablation import ablate
    from .analysis.perturbation.settings import PerturbationSettings
    from .analysis.perturbation.study import study_perturbation
    from .analysis.published import import_scores
    from .errors import (
        AnalysisError,
        IngestError,
        NeuronlakeError,
        QueryError,
        SchemaError,
        StoreError,
        UnknownNameError,
    )
    from .ingest.corpora.builder import build_corpus
    from .ingest.corpora.conllu import read_conllu
    from .ingest.corpora.folders import read_folders
    from .ingest.corpora.huggingface import read_huggingface
    from .ingest.corpora.instance import Instance, Source
    from .ingest.corpora.semcor import read_semcor
    from .ingest.corpora.shuffled import read_shuffled
    from .ingest.corpora.table import read_table
    from .ingest.corpora.trex import read_trex
    from .ingest.jobs.best import add_best
    from .ingest.jobs.job import ingest_model
    from .ingest.jobs.series import ingest_checkpoints, ingest_series
    from .ingest.jobs.settings import Coactivation, Controls, Resources, Settings
    from .ingest.models.checkpoint import Checkpoint
    from .queries.check import check_store
    from .queries.database import Database
    from .queries.materialize import materialize
    from .schema.store import Store
    from .sharing.inventory import list_jobs, list_runs
    from .sharing.merging import merge_stores
    from .sharing.pack import pack_store
    from .sharing.recompute import recompute
    from .sharing.removal import remove_jobs
    from .sharing.transfer import pull_store, push_store
    from .sharing.verify import verify_store

    open = Database  # noqa: A001

__all__ = [
    "AnalysisError",
    "BalancedKMeans",
    "Checkpoint",
    "Coactivation",
    "Controls",
    "Database",
    "EmergenceSettings",
    "GraphPartition",
    "IngestError",
    "Instance",
    "NeuronlakeError",
    "PartitionSettings",
    "PerturbationSettings",
    "QueryError",
    "RandomPartition",
    "Resources",
    "SchemaError",
    "Settings",
    "Source",
    "Store",
    "StoreError",
    "UnknownNameError",
    "ablate",
    "add_best",
    "align_partition",
    "build_corpus",
    "check_store",
    "describe_expert",
    "describe_neuron",
    "import_scores",
    "ingest_checkpoints",
    "ingest_model",
    "ingest_series",
    "list_jobs",
    "list_runs",
    "materialize",
    "merge_stores",
    "open",
    "pack_store",
    "partition_model",
    "pull_store",
    "push_store",
    "read_conllu",
    "read_folders",
    "read_huggingface",
    "read_semcor",
    "read_shuffled",
    "read_table",
    "read_trex",
    "recompute",
    "remove_jobs",
    "study_emergence",
    "study_perturbation",
    "verify_store",
]

# The module of each public name; errors are in `errors`.
_HOMES = {
    "BalancedKMeans": "analysis.partitions.kmeans",
    "Checkpoint": "ingest.models.checkpoint",
    "Coactivation": "ingest.jobs.settings",
    "Controls": "ingest.jobs.settings",
    "Database": "queries.database",
    "EmergenceSettings": "analysis.emergence.settings",
    "GraphPartition": "analysis.partitions.graph",
    "Instance": "ingest.corpora.instance",
    "PartitionSettings": "analysis.partitions.settings",
    "PerturbationSettings": "analysis.perturbation.settings",
    "RandomPartition": "analysis.partitions.chance",
    "Resources": "ingest.jobs.settings",
    "Settings": "ingest.jobs.settings",
    "Source": "ingest.corpora.instance",
    "Store": "schema.store",
    "ablate": "analysis.perturbation.ablation",
    "add_best": "ingest.jobs.best",
    "align_partition": "analysis.alignment.job",
    "build_corpus": "ingest.corpora.builder",
    "check_store": "queries.check",
    "describe_expert": "analysis.cards",
    "describe_neuron": "analysis.cards",
    "import_scores": "analysis.published",
    "ingest_checkpoints": "ingest.jobs.series",
    "ingest_model": "ingest.jobs.job",
    "ingest_series": "ingest.jobs.series",
    "list_jobs": "sharing.inventory",
    "list_runs": "sharing.inventory",
    "materialize": "queries.materialize",
    "merge_stores": "sharing.merging",
    "pack_store": "sharing.pack",
    "partition_model": "analysis.partitions.job",
    "pull_store": "sharing.transfer",
    "push_store": "sharing.transfer",
    "read_conllu": "ingest.corpora.conllu",
    "read_folders": "ingest.corpora.folders",
    "read_huggingface": "ingest.corpora.huggingface",
    "read_semcor": "ingest.corpora.semcor",
    "read_shuffled": "ingest.corpora.shuffled",
    "read_table": "ingest.corpora.table",
    "read_trex": "ingest.corpora.trex",
    "recompute": "sharing.recompute",
    "remove_jobs": "sharing.removal",
    "study_emergence": "analysis.emergence.study",
    "study_perturbation": "analysis.perturbation.study",
    "verify_store": "sharing.verify",
}


def __getattr__(name: str) -> object:
    if name == "open":
        return __getattr__("Database")
    if name == "__version__":
        return importlib.import_module(".schema.commits", __name__).neuronlake_version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_HOMES.get(name, 'errors')}", __name__)
    return getattr(module, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
