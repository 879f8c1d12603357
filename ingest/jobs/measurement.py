"""One checkpoint on one corpus with given settings, ready to be measured."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ...errors import IngestError
from ...progress import Progress
from ...schema.identity import IDENTITY_VERSION, identifier
from ...schema.store import Store
from ...schema.vocabulary import Router
from ..activations.targets import TokenizedTargets, tokenize_targets
from ..activations.tokens import Batch, TokenizedCorpus, tokenize
from ..corpora.labels import LabelIndex
from ..corpora.stored import StoredCorpus
from ..models.devices import place
from ..models.model import Model, decoder_of, first_position, load, start_token
from ..models.tokenizers import check_embedded, longest_text
from ..neurons.feed_forwards import Layer
from ..neurons.layers import find_layers
from ..neurons.sites import check_site
from . import rows
from .request import Request
from .settings import Resources, Settings

__all__ = ["Measurement", "load_requested", "on_device", "prepare", "prepare_loaded"]

# Rows of neuron_functions a part aims at: large enough for whole row groups, small enough to build in memory.
PART_ROWS = 2_000_000


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measurement about to be made: everything it needs, loaded and checked."""

    store: Store
    model: Model
    layers: tuple[Layer, ...]
    corpus: StoredCorpus
    tokens: TokenizedCorpus
    targets: TokenizedTargets | None
    labels: LabelIndex
    settings: Settings
    resources: Resources
    run_id: str
    request_id: str | None

    @property
    def keys(self) -> rows.RunKeys:
        """The columns that every table of the run begins with."""
        return rows.RunKeys(self.run_id, self.model.name, self.model.revision, self.model.step)

    @property
    def batch_tokens(self) -> int:
        """Tokens in one batch."""
        return self.resources.batch_tokens or (4096 if self.resources.device == "cpu" else 32768)

    def batches(self) -> Iterator[Batch]:
        """Cut the texts into batches."""
        return self.tokens.batches(self.batch_tokens, of_equal_lengths=self.model.sees_padding)

    @property
    def section_bytes(self) -> int:
        """Memory for a section of pooled activations, which is copied as it is written."""
        return max(1, self.resources.memory_bytes // 2)

    @property
    def block_neurons(self) -> int:
        """Neurons scored at a time."""
        return min(512, max(1, self.resources.memory_bytes // 8 // (4 * len(self.tokens.instance_id))))

    def sizes(self) -> dict[str, int]:
        """Return what is measured, as the reports name it."""
        return {
            "n_layers": len(self.layers),
            "n_neurons": sum(layer.n_neurons for layer in self.layers),
            "n_functions": len(self.labels.functions),
            "n_instances": len(self.tokens.instance_id),
        }

    @property
    def router(self) -> Router | None:
        """How experts are read, None in a model that has none."""
        return _router(self.settings, self.layers)

    def parts(self) -> list[list[Layer]]:
        """Cut the layers into parts of about `PART_ROWS` rows of neuron_functions."""
        parts: list[list[Layer]] = [[]]
        size = 0
        for layer in self.layers:
            n_rows = layer.n_neurons * len(self.labels.functions)
            if parts[-1] and size + n_rows > PART_ROWS:
                parts.append([])
                size = 0
            parts[-1].append(layer)
            size += n_rows
        return parts


def prepare(
    request: Request, stored: StoredCorpus, store: Store, resources: Resources | None, progress: Progress
) -> Measurement:
    """Load the model, find its neurons and tokenize the corpus (see `job.ingest_model`)."""
    resources = on_device(resources or Resources(), request.checkpoint.stored_name)
    return prepare_loaded(request, load_requested(request, stored, resources), stored, store, resources, progress)


def on_device(resources: Resources, label: str) -> Resources:
    """Return resources that name their device.

    Raises
    ------
    IngestError
        If that is not there; `label` names the model.
    """
    if resources.device == "auto":
        resources = dataclasses.replace(resources, device="cuda" if torch.cuda.is_available() else "cpu")
    place(torch.nn.Linear(1, 1), resources.device, label)
    return resources


def load_requested(request: Request, stored: StoredCorpus, resources: Resources) -> Model:
    """Load the checkpoint of a request.

    Raises
    ------
    IngestError, UnknownNameError
        If the checkpoint is not there or cannot be used.
    """
    loaded = load(
        request.checkpoint,
        dtype=request.settings.dtype,
        device=resources.device,
        tokenizer=request.settings.tokenizer,
        with_decoder=not stored.n_without_target,
    )
    return loaded if request.step is None else dataclasses.replace(loaded, step=request.step)


def prepare_loaded(
    request: Request,
    loaded: Model,
    stored: StoredCorpus,
    store: Store,
    resources: Resources,
    progress: Progress,
) -> Measurement:
    """Find the neurons of a loaded checkpoint and tokenize the corpus for it.

    Raises
    ------
    IngestError
        If what was asked for serves no such model: a layer or site it has not, a corpus it cannot read.
    """
    settings, corpus = request.settings, request.corpus
    if loaded.notice:
        progress.note(loaded.notice)
    if loaded.config.is_encoder_decoder and stored.n_without_target:
        progress.note(
            f"{loaded.name} is an encoder-decoder: its encoder alone is measured, for {stored.n_without_target:,} "
            f"texts of corpus {corpus} have no target for its decoder to read"
        )
    every = tuple(
        layer
        for part in loaded.parts
        for layer in find_layers(loaded.module, part.config, stack=part.stack, name=loaded.name, root=part.path)
    )
    layers = _select(every, settings.layers)
    for layer in layers:
        for network in layer.feed_forwards:
            check_site(network, settings.site)
    settings = dataclasses.replace(settings, max_tokens=min(settings.max_tokens, _position_limit(loaded)))
    tokens = tokenize(stored, loaded.tokenizer, max_tokens=settings.max_tokens)
    check_embedded(tokens, loaded.tokenizer, loaded.module, f"corpus {corpus}")
    targets = None
    if len(loaded.parts) > 1:
        targets = tokenize_targets(
            stored, loaded.tokenizer, start_token=start_token(loaded), max_tokens=settings.max_tokens
        )
        check_embedded(targets, loaded.tokenizer, decoder_of(loaded), f"targets of corpus {corpus}")
        if targets.n_truncated:
            progress.note(f"{targets.n_truncated:,} targets are cut at {settings.max_tokens} tokens")
    if len(layers) == len(every):  # to name all is to name none
        settings = dataclasses.replace(settings, layers=None)
    definition = {
        "schema_version": IDENTITY_VERSION,
        "model": loaded.name,
        "revision": loaded.revision,
        "weights_sha256": loaded.weights_sha256,
        "corpus": corpus,
        "corpus_sha256": stored.sha256,
        "tokens_sha256": tokens.sha256(),
        "targets_sha256": None if targets is None else targets.sha256(),
        **dataclasses.asdict(settings),
    }
    definition["router"] = _router(settings, layers)
    del definition["tokenizer"]  # the digest of tokens stands for it
    if [part.stack for part in loaded.parts] == ["decoder"]:
        _note_shared_beginnings(tokens, progress)
    labels = stored.label_index(tokens.instance_id, tokens.text)
    return Measurement(
        store,
        loaded,
        layers,
        stored,
        tokens,
        targets,
        labels,
        settings,
        resources,
        run_id=identifier(definition),
        request_id=request.identifier(corpus_sha256=stored.sha256, fingerprint=loaded.fingerprint),
    )


def _note_shared_beginnings(tokens: TokenizedCorpus, progress: Progress) -> None:
    """Warn where a causal model sees the same in many texts: equal activations, told apart by rounding alone."""
    at_beginning = tokens.start <= 1  # after a beginning-of-text token at most
    first = tokens.token_ids[(tokens.token_start[tokens.text] + tokens.start)[at_beginning]]
    most = int(np.bincount(first).max(initial=0))
    if 2 * most > len(tokens.start):
        progress.note(
            f"{most:,} of {len(tokens.start):,} instances begin with the same token, where a causal model cannot tell "
            "them apart: scores there may rest on rounding; storage float16 makes such activations equal"
        )


def _select(every: tuple[Layer, ...], chosen: tuple[int, ...] | None) -> tuple[Layer, ...]:
    if chosen is None:
        return every
    known = {layer.layer for layer in every}
    unknown = sorted(set(chosen) - known)
    if unknown or not chosen:
        names = f"{min(known)} to {max(known)}" if len(known) == max(known) + 1 else ", ".join(map(str, sorted(known)))
        raise IngestError(f"no layer {unknown}; the model has feed-forward layers {names}")
    return tuple(layer for layer in every if layer.layer in chosen)


def _router(settings: Settings, layers: tuple[Layer, ...]) -> Router | None:
    """Return how experts are read, None where there are none to read: asking means nothing there."""
    return settings.router if any(layer.experts for layer in layers) else None


def _position_limit(model: Model) -> int:
    """Return the longest text the model takes, in tokens."""
    limits = [longest_text(model.tokenizer) or (1 << 31) - 1]
    names = ("max_position_embeddings", "max_encoder_position_embeddings")
    positions = next((value for name in names if (value := getattr(model.config, name, None)) is not None), None)
    if positions is not None and positions > 0:  # XLNet, which has no limit, says -1
        limits.append(positions - first_position(model.module))
    return min(limits)
