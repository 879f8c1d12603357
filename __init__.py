"""neuronlake: the analysis database for the neurons of transformers.

>>> import neuronlake
>>> store = neuronlake.open("neuronlake-store")  # doctest: +SKIP
>>> store.sql("select * from best_predictivity").pl()  # doctest: +SKIP

The public names are below; they are imported when first used, so that ``import neuronlake`` is quick.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import IngestError, NeuronlakeError, QueryError, SchemaError, StoreError, UnknownNameError
    from .ingest.corpora.builder import build_corpus
    from .ingest.corpora.instance import Instance, Source
    from .ingest.job import ingest_model
    from .ingest.plan import plan_ingest
    from .ingest.settings import Resources, Settings
    from .queries.database import Database
    from .schema.store import Store

    open = Database  # noqa: A001

__all__ = [
    "Database",
    "IngestError",
    "Instance",
    "NeuronlakeError",
    "QueryError",
    "Resources",
    "SchemaError",
    "Settings",
    "Source",
    "Store",
    "StoreError",
    "UnknownNameError",
    "build_corpus",
    "ingest_model",
    "open",
    "plan_ingest",
]

_HOMES = {
    "Database": "queries.database",
    "Instance": "ingest.corpora.instance",
    "Resources": "ingest.settings",
    "Settings": "ingest.settings",
    "Source": "ingest.corpora.instance",
    "Store": "schema.store",
    "build_corpus": "ingest.corpora.builder",
    "ingest_model": "ingest.job",
    "plan_ingest": "ingest.plan",
}


def __getattr__(name: str) -> object:
    if name == "open":
        return __getattr__("Database")
    if name == "__version__":
        return importlib.import_module(".schema.store", __name__).neuronlake_version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_HOMES.get(name, 'errors')}", __name__)
    return getattr(module, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
