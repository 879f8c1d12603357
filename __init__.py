"""neuronlake: the analysis database for the neurons of transformers.

>>> import neuronlake
>>> store = neuronlake.open("neuronlake-store")  # doctest: +SKIP
>>> store.sql("select * from best_predictivity").pl()  # doctest: +SKIP

The public names are below; they are imported when first used, so that ``import neuronlake`` is quick.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .analysis.alignment import align_partition
    from .analysis.balanced_kmeans import BalancedKMeans
    from .analysis.describe import describe_expert, describe_neuron
    from .analysis.emergence.settings import EmergenceSettings
    from .analysis.emergence.study import study_emergence
    from .analysis.graph_partition import GraphPartition
    from .analysis.partition_settings import PartitionSettings
    from .analysis.partitions import partition_model
    from .analysis.perturbation.intervention import perturb
    from .analysis.published import import_scores
    from .analysis.random_partition import RandomPartition
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
    from .ingest.job import ingest_model
    from .ingest.plan import plan_ingest
    from .ingest.series import ingest_series
    from .ingest.settings import Coactivation, Resources, Settings
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
    "BalancedKMeans": "analysis.balanced_kmeans",
    "Coactivation": "ingest.settings",
    "Database": "queries.database",
    "EmergenceSettings": "analysis.emergence.settings",
    "GraphPartition": "analysis.graph_partition",
    "Instance": "ingest.corpora.instance",
    "PartitionSettings": "analysis.partition_settings",
    "RandomPartition": "analysis.random_partition",
    "Resources": "ingest.settings",
    "Settings": "ingest.settings",
    "Source": "ingest.corpora.instance",
    "Store": "schema.store",
    "align_partition": "analysis.alignment",
    "build_corpus": "ingest.corpora.builder",
    "describe_expert": "analysis.describe",
    "describe_neuron": "analysis.describe",
    "import_scores": "analysis.published",
    "ingest_model": "ingest.job",
    "ingest_series": "ingest.series",
    "partition_model": "analysis.partitions",
    "perturb": "analysis.perturbation.intervention",
    "plan_ingest": "ingest.plan",
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
