"""neuronlake: the analysis database for the neurons of transformers.

>>> import neuronlake
>>> store = neuronlake.open("neuronlake-store")  # doctest: +SKIP
>>> store.sql("select * from best_predictivity").pl()  # doctest: +SKIP

The public names are below; they are imported when first used, so that ``import neuronlake`` is quick.
"""

import importlib
from typing import TYPE_CHECKING

# `as` says to type checkers that a name is public.
if TYPE_CHECKING:
    from .analysis.alignment.job import align_partition as align_partition
    from .analysis.cards import describe_expert as describe_expert
    from .analysis.cards import describe_neuron as describe_neuron
    from .analysis.emergence.settings import EmergenceSettings as EmergenceSettings
    from .analysis.emergence.study import study_emergence as study_emergence
    from .analysis.partitions.chance import RandomPartition as RandomPartition
    from .analysis.partitions.graph import GraphPartition as GraphPartition
    from .analysis.partitions.job import partition_model as partition_model
    from .analysis.partitions.kmeans import BalancedKMeans as BalancedKMeans
    from .analysis.partitions.settings import PartitionSettings as PartitionSettings
    from .analysis.perturbation.ablation import ablate as ablate
    from .analysis.perturbation.settings import PerturbationSettings as PerturbationSettings
    from .analysis.perturbation.study import study_perturbation as study_perturbation
    from .analysis.published import import_scores as import_scores
    from .errors import AnalysisError as AnalysisError
    from .errors import IngestError as IngestError
    from .errors import NeuronlakeError as NeuronlakeError
    from .errors import QueryError as QueryError
    from .errors import SchemaError as SchemaError
    from .errors import StoreError as StoreError
    from .errors import UnknownNameError as UnknownNameError
    from .ingest.corpora.builder import build_corpus as build_corpus
    from .ingest.corpora.conllu import read_conllu as read_conllu
    from .ingest.corpora.folders import read_folders as read_folders
    from .ingest.corpora.huggingface import read_huggingface as read_huggingface
    from .ingest.corpora.instance import Instance as Instance
    from .ingest.corpora.instance import Source as Source
    from .ingest.corpora.semcor import read_semcor as read_semcor
    from .ingest.corpora.shuffled import read_shuffled as read_shuffled
    from .ingest.corpora.table import read_table as read_table
    from .ingest.corpora.trex import read_trex as read_trex
    from .ingest.jobs.job import ingest_model as ingest_model
    from .ingest.jobs.series import ingest_checkpoints as ingest_checkpoints
    from .ingest.jobs.series import ingest_series as ingest_series
    from .ingest.jobs.settings import Coactivation as Coactivation
    from .ingest.jobs.settings import Resources as Resources
    from .ingest.jobs.settings import Settings as Settings
    from .ingest.models.checkpoint import Checkpoint as Checkpoint
    from .queries.check import check_store as check_store
    from .queries.database import Database as Database
    from .queries.materialize import materialize as materialize
    from .schema.store import Store as Store

    open = Database  # noqa: A001

# The module of each public name.
_HOMES = {
    "AnalysisError": "errors",
    "BalancedKMeans": "analysis.partitions.kmeans",
    "Checkpoint": "ingest.models.checkpoint",
    "Coactivation": "ingest.jobs.settings",
    "Database": "queries.database",
    "EmergenceSettings": "analysis.emergence.settings",
    "GraphPartition": "analysis.partitions.graph",
    "IngestError": "errors",
    "Instance": "ingest.corpora.instance",
    "NeuronlakeError": "errors",
    "PartitionSettings": "analysis.partitions.settings",
    "PerturbationSettings": "analysis.perturbation.settings",
    "QueryError": "errors",
    "RandomPartition": "analysis.partitions.chance",
    "Resources": "ingest.jobs.settings",
    "SchemaError": "errors",
    "Settings": "ingest.jobs.settings",
    "Source": "ingest.corpora.instance",
    "Store": "schema.store",
    "StoreError": "errors",
    "UnknownNameError": "errors",
    "ablate": "analysis.perturbation.ablation",
    "align_partition": "analysis.alignment.job",
    "build_corpus": "ingest.corpora.builder",
    "check_store": "queries.check",
    "describe_expert": "analysis.cards",
    "describe_neuron": "analysis.cards",
    "import_scores": "analysis.published",
    "ingest_checkpoints": "ingest.jobs.series",
    "ingest_model": "ingest.jobs.job",
    "ingest_series": "ingest.jobs.series",
    "materialize": "queries.materialize",
    "open": "queries.database",
    "partition_model": "analysis.partitions.job",
    "read_conllu": "ingest.corpora.conllu",
    "read_folders": "ingest.corpora.folders",
    "read_huggingface": "ingest.corpora.huggingface",
    "read_semcor": "ingest.corpora.semcor",
    "read_shuffled": "ingest.corpora.shuffled",
    "read_table": "ingest.corpora.table",
    "read_trex": "ingest.corpora.trex",
    "study_emergence": "analysis.emergence.study",
    "study_perturbation": "analysis.perturbation.study",
}
__all__ = sorted(_HOMES)

# Names of the version before, which warn.
_DEPRECATED = {"perturb": "analysis.perturbation.ablation", "plan_ingest": "ingest.jobs.job"}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return importlib.import_module(".schema.commits", __name__).neuronlake_version()
    home = (_HOMES | _DEPRECATED).get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), "Database" if name == "open" else name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
