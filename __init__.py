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
    from .analysis.perturbation.ablation import ablate, perturb
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
    from .ingest.corpora.instance import Instance, Source
    from .ingest.jobs.job import ingest_model
    from .ingest.jobs.plan import plan_ingest
    from .ingest.jobs.series import ingest_series
    from .ingest.jobs.settings import Coactivation, Resources, Settings
    from .queries.database import Database
    from .schema.store import Store

    open = Database  # noqa: A001

__all__ = [
    "AnalysisError",
    "BalancedKMeans",
    "Coactivation",
    "Database",
    "EmergenceSettings",
    "GraphPartition",
    "IngestError",
    "Instance",
    "NeuronlakeError",
    "PartitionSettings",
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
    "align_partition",
    "build_corpus",
    "describe_expert",
    "describe_neuron",
    "import_scores",
    "ingest_model",
    "ingest_series",
    "open",
    "partition_model",
    "perturb",
    "plan_ingest",
    "study_emergence",
]

_HOMES = {
    "BalancedKMeans": "analysis.partitions.kmeans",
    "Coactivation": "ingest.jobs.settings",
    "Database": "queries.database",
    "EmergenceSettings": "analysis.emergence.settings",
    "GraphPartition": "analysis.partitions.graph",
    "Instance": "ingest.corpora.instance",
    "PartitionSettings": "analysis.partitions.settings",
    "RandomPartition": "analysis.partitions.chance",
    "Resources": "ingest.jobs.settings",
    "Settings": "ingest.jobs.settings",
    "Source": "ingest.corpora.instance",
    "Store": "schema.store",
    "ablate": "analysis.perturbation.ablation",
    "align_partition": "analysis.alignment.job",
    "build_corpus": "ingest.corpora.builder",
    "describe_expert": "analysis.cards",
    "describe_neuron": "analysis.cards",
    "import_scores": "analysis.published",
    "ingest_model": "ingest.jobs.job",
    "ingest_series": "ingest.jobs.series",
    "partition_model": "analysis.partitions.job",
    "perturb": "analysis.perturbation.ablation",
    "plan_ingest": "ingest.jobs.plan",
    "study_emergence": "analysis.emergence.study",
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
