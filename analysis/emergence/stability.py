"""How similar scores are at two checkpoints, computed once and stored, for the views of stability to read."""

from collections.abc import Iterator, Sequence
from typing import Any

from ...progress import Progress
from ...queries.database import Database
from ...queries.statements import statement
from ...schema.conformance import conform
from ...schema.identity import IDENTITY_VERSION, identifier
from .series import Series

# Scores that are ranked at a time: about 150 bytes of memory each.
_BATCH_SCORES = 2**23


def store_stability(database: Database, series: Series, partition_ids: Sequence[str], progress: Progress) -> bool:
    """Store what table ``stabilities`` lacks of the neurons of a series and of partitions; return if there was any.

    One job: when it was killed, the same again goes on with the batches of layers and functions that it has staged. A
    series that has grown lacks each checkpoint beside the new last one, and that beside the one before.
    """
    runs = [checkpoint.run_id for checkpoint in series.checkpoints]
    asked = {"model": series.model, "runs": runs, "partitions": ["*", *partition_ids]}
    layers = database.sql(statement("emergence_unstored"), asked).arrow().to_pylist()
    compared = sorted({tuple(each) for layer in layers for each in layer["compared"]})
    identity = {"schema_version": IDENTITY_VERSION, "stability": compared, "batch": _BATCH_SCORES}
    name = identifier(identity)
    if not compared or database.store.commit(name) is not None:
        return False
    query = "select distinct function from run_functions where run_id = ? order by function"
    functions = [str(function) for (function,) in database.sql(query, [series.last.run_id]).rows()]
    batches = list(_batches(layers, functions, n_ranked=2 * len({pair[:2] for pair in compared})))
    progress.phase("comparing checkpoints", total=len(batches), unit="batches")
    with database.store.job(name, kind="stability") as job:
        for part, batch in enumerate(batches):
            if not job.is_staged("stabilities", part):
                rows = database.sql(statement("emergence_stability"), asked | batch).pl()
                job.write("stabilities", conform("stabilities", rows), part=part, model=series.model)
            progress.advance(1)
        job.commit()
    return True


def _batches(
    layers: Sequence[dict[str, Any]],
    functions: Sequence[str],
    *,
    n_ranked: int,  # lists of a layer's scores for a function: two of each comparison, as dead neurons may differ
) -> Iterator[dict[str, object]]:
    """Yield the stack, first and last layer, and functions of each batch: several layers, one, or some functions."""
    scores_of_function = n_ranked * max(layer["n_neurons"] for layer in layers)
    n_functions = min(len(functions), max(1, _BATCH_SCORES // scores_of_function))
    n_layers = max(1, _BATCH_SCORES // (scores_of_function * len(functions)))
    for stack in dict.fromkeys(layer["stack"] for layer in layers):
        numbers = [layer["layer"] for layer in layers if layer["stack"] == stack]
        for first in range(0, len(numbers), n_layers):
            chosen = numbers[first : first + n_layers]
            for start in range(0, len(functions), n_functions):
                some = functions[start : start + n_functions]
                yield {"stack": stack, "layers": [chosen[0], chosen[-1]], "functions": some}
