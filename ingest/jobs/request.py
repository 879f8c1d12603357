"""What a job is asked to measure, before anything is loaded."""

import functools
import importlib.metadata
import itertools
from dataclasses import dataclass, field
from typing import get_args

from ...errors import UnknownNameError
from ...schema.identity import IDENTITY_VERSION, identifier
from ...schema.names import check_name
from ...schema.store import Store
from ...schema.vocabulary import Addition, ControlTask
from ..corpora.control_tasks import default_control
from ..corpora.stored import StoredCorpus
from ..models.checkpoint import Checkpoint, locate_tokenizer
from .settings import Coactivation, Controls, Resources, Settings


@functools.cache
def transformers_version() -> str:
    """Return the version of transformers that is installed, without importing it."""
    return importlib.metadata.version("transformers")


@dataclass(frozen=True, slots=True)
class Request:
    """One checkpoint to measure on one corpus.

    Raises StoreError if no store can hold model or revision under its name.
    """

    checkpoint: Checkpoint
    corpus: str
    settings: Settings = field(default_factory=Settings)
    step: int | None = None  # training step; None: the step in the revision's name
    commit: str | None = None  # commit of a hub revision; None if not known before it is loaded

    def __post_init__(self) -> None:
        check_name("model", self.checkpoint.stored_name)
        check_name("revision", self.checkpoint.stored_revision)

    def identifier(self, *, corpus_sha256: str, fingerprint: str | None) -> str | None:
        """Return the digest of all that defines the measurement; None without a fingerprint of the checkpoint's files.

        Where a store holds a run of the same digest, the model need not be loaded. The version of transformers is part
        of it, for versions may read a tokenizer differently. The training step, of which the store keeps one for each
        revision, and what the job may use are not.
        """
        if fingerprint is None:
            return None
        settings = self.settings.definition()
        if (name := self.settings.tokenizer) is None:
            del settings["tokenizer"]
        else:  # the state of a folder's files; the name of a tokenizer of the hub
            settings["tokenizer"] = locate_tokenizer(name).fingerprint() or name
        return identifier(
            {
                "schema_version": IDENTITY_VERSION,
                "transformers_version": transformers_version(),
                "fingerprint": fingerprint,
                "model": self.checkpoint.stored_name,
                "revision": self.checkpoint.stored_revision,
                "random_init": self.checkpoint.random_init,
                "corpus": self.corpus,
                "corpus_sha256": corpus_sha256,
                **settings,
            }
        )


@dataclass(frozen=True, slots=True)
class Ingestion:
    """What the requests of one job share: the store, its corpus, what may be used, and what is made beside each run."""

    store: Store
    corpus: StoredCorpus
    resources: Resources
    coactivation: Coactivation | None = None
    controls: Controls | None = None
    dry_run: bool = False
    additions: tuple[Addition, ...] = ()

    def __post_init__(self) -> None:
        for addition in self.additions:
            if addition not in get_args(Addition):
                raise UnknownNameError("addition", addition, get_args(Addition))

    def lacking_additions(self, run_id: str) -> tuple[Addition, ...]:
        """Return what is to be added to a run and is not in the store, in the order in which it is made."""
        asked = [addition for addition in get_args(Addition) if addition in self.additions]
        return tuple(addition for addition in asked if self.store.commit(f"{addition}-{run_id}") is None)

    def lacking_controls(self, run_id: str) -> list[tuple[ControlTask, int]]:
        """Return the controls of a run that are asked for and that the store lacks, by task and draw."""
        if self.controls is None:
            return []
        tasks = self.controls.tasks or (default_control(self.corpus),)
        asked = itertools.product(dict.fromkeys(tasks), range(self.controls.n_draws))
        return [each for each in asked if self.store.commit(Controls.job_name(run_id, *each)) is None]
