"""One checkpoint on one corpus with given settings, loaded, checked and ready to be measured."""

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.filesize import decimal

from ...errors import IngestError
from ...progress import Progress
from ...schema.conformance import conform
from ...schema.job import Job
from ...schema.names import IDENTITY_VERSION, identifier
from ...schema.vocabulary import Addition, Router
from ..activations.tokens import Batch, TokenizedCorpus, TokenizedTargets, check_embedded, tokenize, tokenize_targets
from ..corpora.control_tasks import ControlLabels, control_labels
from ..corpora.labels import LabelIndex
from ..corpora.stored import StoredCorpus
from ..models.model import Model, decoder_of, first_position, load, start_token
from ..models.tokenizers import longest_text
from ..neurons.feed_forwards import Layer
from ..neurons.hooks import check_site
from ..scores.clusters import Clusters
from .revisions import lacks_coactivations
from .settings import Request, Settings

FORWARD = "forward"
"""The folder of a job in which activations are kept until they are measured."""

# However little memory is given, the activations of a batch may take this.
_LEAST_BATCH_BYTES = 1 << 20
_Rows = pl.DataFrame | Mapping[str, object] | Sequence[Mapping[str, object]]
_FEW = 5  # of a class in a half: fewer are told


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measurement about to be made, with everything it needs; made by `prepare`."""

    request: Request
    model: Model
    layers: tuple[Layer, ...]
    tokens: TokenizedCorpus
    targets: TokenizedTargets | None
    labels: LabelIndex
    clusters: Clusters
    controls: tuple[tuple[ControlLabels, Clusters], ...]  # those asked for that the store lacks
    settings: Settings  # those asked for, within what the model has
    router: Router | None  # how experts are read; None in a model that has none
    run_id: str
    request_id: str | None
    adds_coactivations: bool

    @property
    def keys(self) -> dict[str, object]:
        """The values of the columns that every table of the run begins with."""
        model = self.model
        return {"run_id": self.run_id, "model": model.name, "revision": model.revision, "step": model.step}

    @property
    def is_new(self) -> bool:
        """Whether the store lacks this run."""
        return self.request.corpus.store.commit(self.run_id) is None

    @property
    def has_pass(self) -> bool:
        """Whether the model is to run over all texts."""
        return self.is_new or bool(self.controls) or self.adds_coactivations

    @property
    def additions(self) -> tuple[Addition, ...]:
        """What the store lacks of the additions asked for."""
        return self.request.lacking_additions(self.run_id)

    def write(self, job: Job, name: str, rows: _Rows, *, part: int = 0, **constants: object) -> None:
        """Stage rows of a table of the run, less the columns that every table of it begins with."""
        data = conform(name, rows, **self.keys, **constants)
        job.write(name, data, part=part, model=self.model.name, revision=self.model.revision)

    def renewed(self) -> "Measurement":
        """Return it without what another process has added to the store since it was prepared."""
        lacking = self.request.lacking_controls(self.run_id)
        controls = tuple(each for each in self.controls if (each[0].control, each[0].draw) in lacking)
        adds = lacks_coactivations(self.request, self.run_id, self.tokens.n_instances)
        return dataclasses.replace(self, controls=controls, adds_coactivations=adds)

    def summary(self) -> dict[str, Any]:
        """Return what reports and plans begin with, under the names of `IngestReport`."""
        return {
            **{name: getattr(self, name) for name in ("run_id", "is_new", "adds_coactivations", "additions")},
            "model": self.model.name,
            "revision": self.model.revision,
            "n_controls": len(self.controls),
            "n_layers": len(self.layers),
            "n_neurons": sum(layer.n_neurons for layer in self.layers),
            "n_functions": len(self.labels.functions),
            **{name: getattr(self.tokens, name) for name in ("n_instances", "n_truncated", "n_dropped")},
        }

    @property
    def batch_tokens(self) -> int:
        """Number of tokens in one batch."""
        is_on_cpu = next(self.model.module.parameters()).device.type == "cpu"
        return self.request.resources.batch_tokens or (4096 if is_on_cpu else 32768)

    def batches(self) -> Iterator[Batch]:
        """Cut the texts into batches; the activations of three, which are under way at a time, take half the memory."""
        n_values = sum(layer.n_neurons + layer.n_native_experts for layer in self.layers)
        value_bytes = 4 if self.settings.dtype == "float32" else 2
        most = max(1, max(self.request.resources.memory_bytes // 6, _LEAST_BATCH_BYTES) // (value_bytes * n_values))
        return self.tokens.batches(self.batch_tokens, batch_instances=most, of_equal_lengths=self.model.sees_padding)

    def passes(self, layers: Sequence[Layer], folder: Path | None = None) -> list[list[Layer]]:
        """Cut layers into groups whose activations the free disk holds; `IngestError` if one is too large.

        What a killed attempt left in `folder`, by default that of the run's job, will have made room.
        """
        store, value_bytes = self.request.corpus.store, np.dtype(self.settings.storage).itemsize
        kept = 0
        for file in (folder or store.staging / self.run_id / FORWARD).glob("*.bin"):
            with contextlib.suppress(FileNotFoundError):  # another process makes the same run
                kept += file.stat().st_size
        room = (shutil.disk_usage(store.path).free + kept) * 9 // 10  # the rest for tables
        n = self.tokens.n_instances
        sizes = {layer: n * (value_bytes * layer.n_neurons + 4 * layer.n_native_experts) for layer in layers}
        for layer, size in sizes.items():
            if size > room:
                problem = f"the activations of {layer.stack} layer {layer.layer} take {decimal(size)}, and {store.path}"
                remedy = "free some, or choose `storage` float16 or fewer instances"
                raise IngestError(f"{problem} has {decimal(room)} of disk for them; {remedy}")
        return grouped(sizes, room)


def grouped(sizes: Mapping[Layer, int], most: int) -> list[list[Layer]]:
    """Cut layers, in order, into groups whose sizes add up to no more than `most`, or that hold one layer."""
    groups: list[list[Layer]] = []
    for layer, size in sizes.items():
        if not groups or sum(sizes[other] for other in groups[-1]) + size > most:
            groups.append([])
        groups[-1].append(layer)
    return groups


def load_requested(request: Request) -> Model:
    """Load a request's checkpoint, its decoder if the corpus has targets, any head for a vocabulary."""
    with_head = "vocabulary" in request.additions
    read = functools.partial(
        load,
        request.checkpoint,
        dtype=request.settings.dtype,
        device=request.resources.device,
        tokenizer=request.settings.tokenizer,
        with_decoder=not request.corpus.n_without_target,
    )
    try:
        model = read(with_head=with_head)
    except IngestError:
        if not with_head:
            raise
        model = read()  # which fails likewise, unless it is for want of a head
    return model if request.step is None else dataclasses.replace(model, step=request.step)


def prepare(request: Request, model: Model, progress: Progress) -> Measurement:
    """Find a model's neurons, tokenize the corpus, note what may surprise; `IngestError` if they do not fit."""
    corpus = request.corpus
    if model.notice:
        progress.note(model.notice)
    if model.config.is_encoder_decoder and corpus.n_without_target:
        alone = f"{model.name} is an encoder-decoder: its encoder alone is measured"
        texts = f"{corpus.n_without_target:,} texts of corpus {corpus.name}"
        progress.note(f"{alone}, for {texts} have no target for its decoder to read")
    max_tokens = min(request.settings.max_tokens, _position_limit(model))
    layers, is_all = _find_layers(model, request.settings)
    chosen = None if is_all else request.settings.layers  # to name all is to name none
    settings = dataclasses.replace(request.settings, max_tokens=max_tokens, layers=chosen)
    tokens = tokenize(corpus, model.tokenizer, max_tokens=max_tokens, special_tokens=settings.special_tokens)
    check_embedded(tokens, model.tokenizer, model.module, f"corpus {corpus.name}")
    targets = _tokenize_targets(model, corpus, settings, progress) if len(model.parts) > 1 else None
    if settings.special_tokens == "keep":
        _note_special_tokens(model, corpus, tokens, targets, progress)
    if [part.stack for part in model.parts] == ["decoder"]:
        _note_shared_beginnings(tokens, progress)
    router = settings.router if any(layer.n_native_experts for layer in layers) else None
    definition = settings.definition() | {
        "schema_version": IDENTITY_VERSION,
        "model": model.name,
        "revision": model.revision,
        "weights_sha256": model.weights_sha256,
        "corpus": corpus.name,
        "corpus_sha256": corpus.sha256,
        "tokens_sha256": tokens.sha256(),
        "targets_sha256": None if targets is None else targets.sha256(),
        "router": router,
    }
    del definition["tokenizer"]  # the digest of tokens stands for it
    run_id = identifier(definition)
    labels, few = _choose_functions(corpus, tokens, settings)
    clusterings = corpus.clusters(tokens.instance_id)
    clusters = Clusters.build(labels, clusterings)
    lacking = request.lacking_controls(run_id)
    controls = [control_labels(corpus, labels, tokens.instance_id, *each) for each in lacking]
    # By the clusterings of the run: a control lacks functions that strata fix, and may be all that goes by one.
    clustered = tuple((each, Clusters.build(each.labels, clusterings, clusters.names)) for each in controls)
    adds = lacks_coactivations(request, run_id, tokens.n_instances)
    request_id = request.identifier(model.fingerprint)
    measurement = Measurement(
        request, model, layers, tokens, targets, labels, clusters, clustered, settings, router, run_id, request_id, adds
    )
    if measurement.is_new:
        if settings.halves == "word":
            _note_halves(labels, clusterings["word"], progress)
        for notice in ([few] if few else []) + clusters.notices(labels.functions):
            progress.note(notice)
    if measurement.has_pass and (n_passes := len(measurement.passes(layers))) > 1:
        progress.note(f"the disk does not hold the activations of all layers: {n_passes} passes, some layers each")
    return measurement


def _choose_functions(
    corpus: StoredCorpus, tokens: TokenizedCorpus, settings: Settings
) -> tuple[LabelIndex, str | None]:
    """Return the labels of the functions to measure, and a notice: which are left out, or else have few instances."""
    least = settings.min_instances
    labels = corpus.label_index(tokens.instance_id, settings.halves, may_lack=least > 0)
    positive, evaluated = np.moveaxis(labels.counts()[:, 1:], 2, 0)  # [functions, halves]
    counts = np.stack([positive, evaluated - positive], axis=2)  # [functions, halves, classes]
    fewest = counts.min(axis=(1, 2))
    if fewest.max() < least:
        problem = f"no function has {least} positives and negatives in each half, as min_instances asks"
        most = f"{fewest.max()} ({'/'.join(labels.functions[fewest.argmax()])})"
        raise IngestError(f"corpus {corpus.name}: {problem}; the most that one has is {most}")
    is_few = fewest < (least or _FEW)
    if not is_few.any():
        return labels, None
    first = np.flatnonzero(is_few)[:10]
    halves = ["; ".join(f"{positive}, {negative}" for positive, negative in of) for of in counts[first]]
    shown = [f"{'/'.join(labels.functions[place])} ({of})" for place, of in zip(first, halves, strict=True)]
    more = f" and {is_few.sum() - 10:,} more" if is_few.sum() > 10 else ""
    what = "are left out, for they have" if least else "have"
    remedy = "" if least else f"; --min-instances {_FEW} leaves them out"
    few = f"{is_few.sum():,} of {len(is_few):,} functions {what} fewer than {least or _FEW} positives or negatives"
    listed = f"{', '.join(shown)}{more}{remedy}"
    notice = f"{few} in a half (positives, negatives of half a; of half b): {listed}"
    return (labels.only(~is_few) if least else labels), notice


def _find_layers(model: Model, settings: Settings) -> tuple[tuple[Layer, ...], bool]:
    """Return the layers asked for, checked to have the site asked for, and whether they are all layers of the model."""
    chosen = layers = model.layers()
    if settings.layers is not None:
        numbers = {layer.layer for layer in layers}
        unknown = sorted(set(settings.layers) - numbers)
        if unknown or not settings.layers:
            is_gapless = len(numbers) == max(numbers) + 1
            known = f"{min(numbers)} to {max(numbers)}" if is_gapless else ", ".join(map(str, sorted(numbers)))
            raise IngestError(f"no layer {unknown}; the model has feed-forward layers {known}")
        chosen = tuple(layer for layer in layers if layer.layer in settings.layers)
    for layer in chosen:
        for network in layer.feed_forwards:
            check_site(network, settings.site)
    return chosen, len(chosen) == len(layers)


def _tokenize_targets(model: Model, corpus: StoredCorpus, settings: Settings, progress: Progress) -> TokenizedTargets:
    start, most, special = start_token(model), settings.max_tokens, settings.special_tokens
    targets = tokenize_targets(corpus, model.tokenizer, start_token=start, max_tokens=most, special_tokens=special)
    check_embedded(targets, model.tokenizer, decoder_of(model), f"targets of corpus {corpus.name}")
    if targets.n_truncated:
        progress.note(f"{targets.n_truncated:,} targets are cut at {most} tokens")
    return targets


def _note_special_tokens(
    model: Model, corpus: StoredCorpus, tokens: TokenizedCorpus, targets: TokenizedTargets | None, progress: Progress
) -> None:
    """Note in which instances special tokens count; an IngestError if they do in none, so that to keep is to drop."""
    if not tokens.n_special and targets is None:
        has_none = not model.tokenizer.num_special_tokens_to_add()
        reason = "the tokenizer puts none around a text" if has_none else f"corpus {corpus.name} has spans alone"
        raise IngestError(f"{model.name}: special_tokens keep measures what drop does, for {reason}")
    if tokens.n_special < tokens.n_instances:
        counted = f"{tokens.n_special:,} of {tokens.n_instances:,} instances"
        progress.note(f"special tokens count in {counted}: a span has none")


def _note_halves(labels: LabelIndex, word: NDArray[np.int64], progress: Progress) -> None:
    """Note what halves by word hold, and how many functions they score; spans have words below 0."""
    holdings = [
        f"{len(words):,} instances ({len(np.unique(words[words < 0])):,} words) in half {half}"
        for half, words in (("a", word[labels.half == 0]), ("b", word[labels.half == 1]))
    ]
    positive, evaluated = np.moveaxis(labels.counts()[:, 1:], 2, 0)  # [functions, halves]
    is_scored = ((positive > 0) & (positive < evaluated)).all(1)
    scored = f"{int(is_scored.sum()):,} of {len(is_scored):,} functions have both classes in both"
    progress.note(f"halves by word: {' and '.join(holdings)}; {scored}")


def _note_shared_beginnings(tokens: TokenizedCorpus, progress: Progress) -> None:
    """Note where a causal model reads the same in many texts: their activations differ by rounding alone."""
    at_beginning = tokens.start <= 1  # after a beginning-of-text token at most
    first = tokens.token_ids[(tokens.token_start[tokens.text] + tokens.start)[at_beginning]]
    most = int(np.bincount(first).max(initial=0))
    if 2 * most > len(tokens.start):
        alike = f"{most:,} of {len(tokens.start):,} instances begin with the same token"
        remedy = "scores there may rest on rounding; storage float16 makes such activations equal"
        progress.note(f"{alike}, where a causal model cannot tell them apart: {remedy}")


def _position_limit(model: Model) -> int:
    """Return the longest text the model takes, in tokens."""
    limits = [longest_text(model.tokenizer) or (1 << 31) - 1]
    names = ("max_position_embeddings", "max_encoder_position_embeddings")
    positions = next((value for name in names if (value := getattr(model.config, name, None)) is not None), -1)
    if positions > 0:  # XLNet, which has no limit, says -1
        limits.append(positions - first_position(model.module))
    return min(limits)
