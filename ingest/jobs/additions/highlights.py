"""Which tokens of its top texts a neuron fires on: the table ``top_tokens``, of a job beside a run's.

A second pass runs the texts that cards show alone: of the neurons that rank highest for a function, the top instances
on either side of it. So it costs a share of the first, whatever the size of the model. Every token of these instances
is pooled as if it were one, by the hooks of the run itself.
"""

import dataclasses

import numpy as np
import polars as pl
import torch

from ....errors import IngestError
from ....progress import Progress
from ....schema import parquet
from ....schema.job import Job
from ...activations.capture import capture
from ...models.devices import explaining_lack_of_memory
from ...models.tokenizers import encode
from ..forward import run_batch
from ..measurement import Measurement

N_NEURONS = 10  # of each function those with the highest lift over all layers, beside the first of every layer
N_TEXTS = 5  # most instances of either side of a function, as many as a card shows
N_TOKENS = 3  # most tokens of an instance
_PART_ROWS = 5_000  # listed instances of a part, about: what a job that is stopped has to do again

_NEURON = ["stack", "layer", "neuron"]
_FUNCTION = ["family", "function"]
_LISTED = [*_NEURON, *_FUNCTION, "is_positive", "rank"]


def add_highlights(measurement: Measurement, job: Job, run: Job | None, progress: Progress) -> None:
    """Stage the highlights of a run that the store holds or another job has staged; `IngestError` if there are none."""
    if measurement.targets is not None:
        progress.note("highlights are of the encoder's neurons alone: the decoder reads targets, not texts")
    model, corpus, tokens = measurement.model, measurement.request.corpus, measurement.tokens
    spans = {name: getattr(tokens, name) for name in ("instance_id", "text", "start", "stop")}
    places = pl.DataFrame({"text": tokens.order, "n_tokens": np.diff(tokens.token_start)[tokens.order]})
    listed = (
        _listed(measurement, run)
        .join(pl.DataFrame(spans), on="instance_id")
        .join(places.with_row_index("place"), on="text")
        .sort("place", *_LISTED)
        .with_row_index("row")
        .with_columns(part=pl.col("row").min().over("place") // _PART_ROWS)  # parts share no text
    )
    wanted = set(listed["text"])
    texts = {number: text for number, text in enumerate(corpus.texts()) if number in wanted}
    parts = enumerate(listed.partition_by("part", maintain_order=True))
    missing = [(part, rows) for part, rows in parts if not job.is_staged("top_tokens", part)]
    n_tokens = sum(int(rows.unique("text")["n_tokens"].sum()) for _, rows in missing)
    progress.phase("highlighting", total=n_tokens, unit="tokens")
    for part, rows in missing:
        with explaining_lack_of_memory(model.name, "batch_tokens", "memory_bytes"):
            fired = _fired(measurement, rows, progress)
        fired = fired.join(_characters(measurement, fired, texts), on=["text", "token"])
        fired = fired.select(*_LISTED, "token", "instance_id", "start_char", "end_char", "activation")
        measurement.write(job, "top_tokens", fired.sort(*_LISTED, "token"), part=part, corpus=corpus.name)


def _listed(measurement: Measurement, run: Job | None) -> pl.DataFrame:
    """Return neuron, function, side, rank and instance of what is highlighted, as the store's rows of the run say."""
    corpus, stack = measurement.request.corpus, measurement.model.parts[0].stack
    positive, evaluated = measurement.labels.counts()[:, 0].T
    names = pl.DataFrame(measurement.labels.functions, schema=_FUNCTION, orient="row")
    columns = (*_NEURON, *_FUNCTION, "rank", "ranked_by", "half", "ap", "ap_complement")
    tops = _rows(measurement, run, "function_top_neurons", *columns).filter(ranked_by="lift", half="all", stack=stack)
    prevalence = pl.col("prevalence")
    rise = pl.max_horizontal(pl.col("ap") - prevalence, pl.col("ap_complement") - 1 + prevalence)
    tops = tops.join(names.with_columns(prevalence=pl.Series(positive / evaluated)), on=_FUNCTION).sort(_NEURON)
    is_high = rise.rank("ordinal", descending=True).over(_FUNCTION) <= N_NEURONS
    tops = tops.filter((pl.col("rank") == 1) | is_high).select(*_NEURON, *_FUNCTION)
    instance, function, is_positive = corpus.labels()
    labels = pl.DataFrame({"instance_id": instance, "number": function, "is_positive": is_positive})
    place = pl.int_range(pl.len(), dtype=pl.Int32)
    functions = pl.DataFrame(corpus.functions()).select(*_FUNCTION, "negatives", number=place)
    label = pl.when(negatives="rest").then(pl.col("is_positive").fill_null(value=False)).otherwise("is_positive")
    listed = (
        tops.join(_rows(measurement, run, "top_instances", *_NEURON, "rank", "instance_id"), on=_NEURON)
        .join(functions, on=_FUNCTION)
        .join(labels, on=["instance_id", "number"], how="left")
        .with_columns(is_positive=label)
        .drop_nulls("is_positive")
        .with_columns(pl.col("rank").rank("ordinal").over(_LISTED[:-1]).cast(pl.Int16))
        .filter(pl.col("rank") <= N_TEXTS)
    )
    if listed.is_empty():
        why = "no text of a function is among the top instances of a neuron that ranks high for it"
        problem = f"run {measurement.run_id} has nothing to highlight: {why}"
        raise IngestError(f"{problem}; a larger n_top keeps more of them")
    return listed.select(*_LISTED, "instance_id")


def _rows(measurement: Measurement, run: Job | None, name: str, *columns: str) -> pl.DataFrame:
    """Return columns of the run's rows in a table, which may have been added to it later."""
    store, run_id = measurement.request.corpus.store, measurement.run_id
    files = [file for job in (run_id, f"best-{run_id}") for file in store.files(name, job=job)]
    if run is not None and not files:  # it waits for its commit
        files += run.staged(name)
    if not files:
        raise IngestError(f"run {run_id} has no rows of {name}: 'neuronlake materialize' adds what an older run lacks")
    return pl.DataFrame(parquet.read(tuple(files), columns))


def _fired(measurement: Measurement, listed: pl.DataFrame, progress: Progress) -> pl.DataFrame:
    """Run the texts of listed instances; return them with the tokens that fire most and their activations."""
    settings, model = measurement.settings, measurement.model
    each = listed.with_columns(token=pl.int_ranges("start", "stop", dtype=pl.Int32)).explode("token")
    units = each.select("place", "text", "token").unique().sort("place", "token")
    each = each.join(units.with_row_index("unit"), on=["text", "token"]).sort("unit")
    token = units["token"].to_numpy()
    tokens = dataclasses.replace(  # a corpus in which these tokens are the instances
        measurement.tokens,
        order=units["text"].unique(maintain_order=True).to_numpy(),
        instance_id=np.arange(len(units)),
        text=units["text"].to_numpy(),
        start=token,
        stop=token + 1,
    )
    stack, numbers = model.parts[0].stack, set(listed["layer"])
    layers = [layer for layer in measurement.layers if layer.stack == stack and layer.layer in numbers]
    unit, number, neuron = (each[name].to_numpy().astype(np.int64) for name in ("unit", "layer", "neuron"))
    activation = np.empty(len(unit), np.float32)
    # All neurons at every token are in memory at once, and a copy.
    most = measurement.request.resources.memory_bytes // (8 * sum(layer.n_neurons for layer in layers))
    batches = tokens.batches(max(1, min(measurement.batch_tokens, most)), of_equal_lengths=model.sees_padding)
    single = dataclasses.replace(measurement, tokens=tokens)
    reader = capture(model.module, layers, site=settings.site, router=settings.router, ends_early=True)
    with torch.inference_mode(), reader as reading:
        for batch in batches:
            run_batch(single, reading, batch)
            first, last = np.searchsorted(unit, (batch.first, batch.last))
            for layer, values in zip(layers, reading.pooled(), strict=True):
                of = first + np.flatnonzero(number[first:last] == layer.layer)
                row, column = torch.from_numpy(np.stack([unit[of] - batch.first, neuron[of]])).to(values.device)
                activation[of] = values[row, column].float().cpu().numpy()
            progress.advance(batch.n_tokens)
    strength = pl.col("activation").abs() if settings.pooling == "abs_max" else pl.col("activation")
    nth = strength.rank("ordinal", descending=True).over(_LISTED)
    fires = (nth == 1) | ((nth <= N_TOKENS) & (strength > 0))
    return each.with_columns(activation=activation).filter(fires)


def _characters(measurement: Measurement, fired: pl.DataFrame, texts: dict[int, str]) -> pl.DataFrame:
    """Return where tokens start and end in their texts, without the space that some tokenizers put before a word."""
    tokens = fired.select("text", "token").unique().group_by("text").all()
    chosen, rows = [texts[number] for number in tokens["text"]], []
    encodings = encode(measurement.model.tokenizer, chosen, max_tokens=measurement.settings.max_tokens)
    for number, places, text, encoding in zip(*tokens, chosen, encodings, strict=True):
        for place in places:
            start, end = encoding.offsets[place]
            space = len(text[start:end]) - len(text[start:end].lstrip())
            rows.append((number, place, start + space if start + space < end else start, end))
    schema = {"text": pl.Int64, "token": pl.Int32, "start_char": pl.Int32, "end_char": pl.Int32}
    return pl.DataFrame(rows, schema=schema, orient="row")
