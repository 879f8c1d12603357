"""Which tokens of its top texts a neuron fires on: the table ``top_tokens``, of a job beside a run's.

A second pass runs the texts that cards show alone: of the neurons that rank highest for a function, the top instances
on either side of it. So it costs a share of the first, whatever the size of the model. Every token of these instances
is pooled as if it were one, by the hooks of the run itself.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ...errors import IngestError
from ...progress import Progress
from ...schema import parquet
from ...schema.conformance import conform
from ...schema.job import Job
from ..activations.capture import capture
from ..activations.tokens import TokenizedCorpus, collate
from ..models.devices import explaining_lack_of_memory
from ..models.tokenizers import encode
from ..neurons.feed_forwards import Layer
from .measurement import Measurement

N_NEURONS = 10  # of each function those with the highest lift over all layers, beside the first of every layer
N_TEXTS = 5  # most instances of either side of a function, as many as a card shows
N_TOKENS = 3  # most tokens of an instance
_PART_PAIRS = 20_000  # of a neuron and an instance, in a part: what a job that is stopped has to do again

_NEURON = ["stack", "layer", "neuron"]
_SIDE = [*_NEURON, "family", "function", "is_positive"]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Neurons and the instances they fire on, in the order in which texts are run."""

    layer: NDArray[np.int64]  # place of the neuron's layer among those that are read [pairs]
    neuron: NDArray[np.int64]
    instance: NDArray[np.int64]  # place among the instances of the measurement [pairs]

    def taken(self, which: slice | NDArray[np.int64]) -> "_Pairs":
        return _Pairs(self.layer[which], self.neuron[which], self.instance[which])


def add_highlights(measurement: Measurement, progress: Progress) -> None:
    """Make and commit the highlights of a run that the store holds.

    Raises IngestError if no neuron of the run is listed with a text, or memory does not suffice.
    """
    store, run_id, tokens = measurement.ingestion.store, measurement.run_id, measurement.tokens
    if measurement.targets is not None:
        progress.note("highlights are of the encoder's neurons alone: the decoder reads targets, not texts")
    stack, listed = measurement.model.parts[0].stack, _listed(measurement)
    numbers = {number: place for place, number in enumerate(listed["layer"].unique(maintain_order=True).to_list())}
    layers = [layer for layer in measurement.layers if layer.stack == stack and layer.layer in numbers]
    pairs = listed.select(*_NEURON, "instance_id").unique(maintain_order=True)
    order = np.argsort(tokens.instance_id)
    instance = order[np.searchsorted(tokens.instance_id, pairs["instance_id"].to_numpy(), sorter=order)]
    layer = pairs["layer"].replace_strict(numbers, return_dtype=pl.Int64).to_numpy()
    every = _Pairs(layer, pairs["neuron"].to_numpy().astype(np.int64), instance)
    place_in_order = np.zeros(len(tokens.token_start), np.int64)
    place_in_order[tokens.order] = np.arange(tokens.n_texts)
    place = place_in_order[tokens.text[instance]]
    by_text = np.argsort(place, kind="stable")
    every, place = every.taken(by_text), place[by_text]
    texts = _texts(measurement, np.unique(tokens.text[instance]))
    with store.job(f"highlights-{run_id}", kind="highlights") as job:
        missing = [each for each in enumerate(_parts(place)) if not job.is_staged("top_tokens", each[0])]
        read = [tokens.text[every.instance[which]] for _, which in missing]
        n_tokens = sum(int(np.diff(tokens.token_start)[np.unique(each)].sum()) for each in read)
        progress.phase("highlighting", total=n_tokens, unit="tokens")
        for part, which in missing:
            with explaining_lack_of_memory(measurement.model.name, "batch_tokens", "memory_bytes"):
                found = _fired(measurement, layers, every.taken(which), progress)
            _write(measurement, job, part, listed, found, texts)
        job.commit()


def _listed(measurement: Measurement) -> pl.DataFrame:
    """Return neuron, function, side, rank and instance of what is highlighted, as the store's rows of the run say."""
    corpus = measurement.ingestion.corpus
    names = (*_NEURON, "family", "function", "rank", "ranked_by", "half", "ap", "ap_complement")
    tops = _rows(measurement, "function_top_neurons", *names).filter(
        ranked_by="lift", half="all", stack=measurement.model.parts[0].stack
    )
    positive, evaluated = measurement.labels.counts()[:, 0].T
    prevalence = pl.DataFrame(measurement.labels.functions, schema=["family", "function"], orient="row").with_columns(
        prevalence=pl.Series(positive / evaluated)
    )
    rise = pl.max_horizontal(pl.col("ap") - pl.col("prevalence"), pl.col("ap_complement") - 1 + pl.col("prevalence"))
    tops = tops.join(prevalence, on=["family", "function"]).sort(*_NEURON)
    place = rise.rank("ordinal", descending=True).over("family", "function")
    tops = tops.filter((pl.col("rank") == 1) | (place <= N_NEURONS)).select(*_NEURON, "family", "function")
    instances = _rows(measurement, "top_instances", *_NEURON, "rank", "instance_id")
    functions = pl.DataFrame(corpus.functions()).with_row_index("place")
    instance, of, is_positive = corpus.labels()
    labels = pl.DataFrame({"instance_id": instance, "place": of.astype(np.uint32), "is_positive": is_positive})
    found = (
        tops.join(instances, on=_NEURON)
        .join(functions.select("family", "function", "negatives", "place"), on=["family", "function"])
        .join(labels, on=["instance_id", "place"], how="left")
        .with_columns(
            pl.when(negatives="rest").then(pl.col("is_positive").fill_null(value=False)).otherwise("is_positive")
        )
        .drop_nulls("is_positive")
        .with_columns(pl.col("rank").rank("ordinal").over(_SIDE).cast(pl.Int16))
        .filter(pl.col("rank") <= N_TEXTS)
    )
    if found.is_empty():
        raise IngestError(
            f"run {measurement.run_id} has nothing to highlight: no text of a function is among the top instances of a "
            "neuron that ranks high for it; a larger n_top keeps more of them"
        )
    return found.select(*_SIDE, "rank", "instance_id").sort(*_SIDE, "rank")


def _rows(measurement: Measurement, name: str, *columns: str) -> pl.DataFrame:
    """Return columns of the run's rows in a table, which may have been added to it later."""
    store, run_id = measurement.ingestion.store, measurement.run_id
    files = [file for job in (run_id, f"best-{run_id}") for file in store.files(name, job=job)]
    if not files:
        raise IngestError(f"run {run_id} has no rows of {name}: 'neuronlake materialize' adds what an older run lacks")
    return pl.DataFrame(parquet.read(tuple(files), columns))


def _texts(measurement: Measurement, wanted: NDArray[np.int64]) -> dict[int, str]:
    kept = set(wanted.tolist())
    return {number: text for number, text in enumerate(measurement.ingestion.corpus.texts()) if number in kept}


def _parts(place: NDArray[np.int64]) -> Iterator[slice]:
    """Cut pairs, sorted by the place of their text, into parts that share no text, whatever the job may use."""
    begin, borders = 0, [*(np.flatnonzero(np.diff(place)) + 1).tolist(), len(place)]
    for border, after in zip(borders, [*borders[1:], None], strict=True):
        if after is None or after - begin > _PART_PAIRS:
            yield slice(begin, border)
            begin = border


def _fired(measurement: Measurement, layers: Sequence[Layer], pairs: _Pairs, progress: Progress) -> pl.DataFrame:
    """Run the texts of pairs; return neuron, instance, text, token and activation of those tokens that fire most."""
    tokens, settings, model = measurement.tokens, measurement.settings, measurement.model
    single, first = _single_tokens(tokens, pairs.instance)
    n_each = (tokens.stop - tokens.start)[pairs.instance].astype(np.int64)
    by_place = np.argsort(first, kind="stable")
    pairs, first, n_each = pairs.taken(by_place), first[by_place], n_each[by_place]
    pair = np.repeat(np.arange(len(first)), n_each)
    unit = np.repeat(first - (n_each.cumsum() - n_each), n_each) + np.arange(len(pair))  # [pairs' tokens]
    activation = np.empty(len(pair), np.float32)
    # All neurons at every token are in memory at once.
    n_neurons = sum(layer.n_neurons for layer in layers)
    most = measurement.ingestion.resources.memory_bytes // (8 * n_neurons)
    batch_tokens = max(1, min(measurement.batch_tokens, most))
    reader = capture(model.module, layers, site=settings.site, pooling="max", router=settings.router, ends_early=True)
    with torch.inference_mode(), reader as reading:
        for batch in single.batches(batch_tokens, of_equal_lengths=model.sees_padding):
            inputs, spans = collate(model, single, measurement.targets, batch)
            with reading.batch(spans):
                model.module(**inputs)
            inside = slice(*np.searchsorted(pair, np.searchsorted(first, (batch.first, batch.last))).tolist())
            layer = pairs.layer[pair[inside]]
            for place, values in enumerate(reading.pooled()):
                of_layer = inside.start + np.flatnonzero(layer == place)
                index = [unit[of_layer] - batch.first, pairs.neuron[pair[of_layer]]]
                row, column = (torch.from_numpy(each).to(values.device) for each in index)
                activation[of_layer] = values[row, column].float().cpu().numpy()
            progress.advance(batch.n_tokens)
    strength = np.abs(activation) if settings.pooling == "abs_max" else activation
    order = np.lexsort((unit, -strength, pair))
    nth = np.arange(len(pair)) - np.repeat(n_each.cumsum() - n_each, n_each)
    kept = order[(nth < N_TOKENS) & ((nth == 0) | (strength[order] > 0))]  # others do not fire
    of = pairs.taken(pair[kept])
    return pl.DataFrame(
        {
            "layer": np.array([layer.layer for layer in layers])[of.layer],
            "neuron": of.neuron,
            "instance_id": tokens.instance_id[of.instance],
            "text": tokens.text[of.instance],
            "token": single.start[unit[kept]],
            "activation": activation[kept],
        }
    )


def _single_tokens(tokens: TokenizedCorpus, instances: NDArray[np.int64]) -> tuple[TokenizedCorpus, NDArray[np.int64]]:
    """Return a corpus of which every token of some instances is an instance, and the place of each one's first."""
    position = np.zeros(len(tokens.token_start), np.int64)
    position[tokens.order] = np.arange(tokens.n_texts)
    distinct, inverse = np.unique(instances, return_inverse=True)
    width = int(tokens.stop.max()) + 1
    begin = position[tokens.text[distinct]] * width + tokens.start[distinct]
    n_each = (tokens.stop - tokens.start)[distinct].astype(np.int64)
    offset = np.arange(n_each.sum()) - np.repeat(n_each.cumsum() - n_each, n_each)
    keys = np.unique(np.repeat(begin, n_each) + offset)  # all tokens between a first and a last are there
    place, token = keys // width, (keys % width).astype(np.int32)
    single = dataclasses.replace(
        tokens,
        order=tokens.order[np.unique(place)],
        instance_id=np.arange(len(keys)),
        text=tokens.order[place],
        start=token,
        stop=token + 1,
    )
    return single, np.searchsorted(keys, begin)[inverse]


def _write(
    measurement: Measurement, job: Job, part: int, listed: pl.DataFrame, found: pl.DataFrame, texts: dict[int, str]
) -> None:
    """Stage the rows of some texts."""
    model, corpus = measurement.model, measurement.ingestion.corpus.name
    rows = listed.join(found, on=["layer", "neuron", "instance_id"]).join(
        _characters(measurement, found, texts), on=["text", "token"]
    )
    rows = rows.sort(*_SIDE, "rank", "token").drop("text")
    data = conform("top_tokens", rows, **measurement.keys, corpus=corpus)
    job.write("top_tokens", data, part=part, model=model.name, revision=model.revision)


def _characters(measurement: Measurement, found: pl.DataFrame, texts: dict[int, str]) -> pl.DataFrame:
    """Return where tokens start and end in their texts, without the space that some tokenizers put before a word."""
    wanted = found.select("text", "token").unique().sort("text", "token").group_by("text", maintain_order=True).all()
    numbers = wanted["text"].to_list()
    limit, rows = measurement.settings.max_tokens, []
    encodings = encode(measurement.model.tokenizer, [texts[number] for number in numbers], max_tokens=limit)
    for number, places, encoding in zip(numbers, wanted["token"].to_list(), encodings, strict=True):
        for place in places:
            start, end = cast("tuple[int, int]", encoding.offsets[place])
            characters = texts[number][start:end]
            if characters.strip():
                start += len(characters) - len(characters.lstrip())
                end = start + len(characters.strip())
            rows.append((number, place, start, end))
    return pl.DataFrame(
        rows,
        schema={"text": pl.Int64, "token": pl.Int32, "start_char": pl.Int32, "end_char": pl.Int32},
        orient="row",
    )
