"""What a job is asked to measure, before anything is loaded."""

import dataclasses
import importlib.metadata
from dataclasses import dataclass, field

from ...schema.identity import IDENTITY_VERSION, identifier
from ...schema.names import check_name
from ..models.checkpoint import Checkpoint
from ..models.source import locate_tokenizer
from .settings import Settings

__all__ = ["Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """One checkpoint to measure on one corpus.

    Parameters
    ----------
    checkpoint
        The checkpoint.
    corpus, settings
        As `job.ingest_model` takes them.
    step
        Training step; None: what the revision's name tells.
    commit
        Commit of a hub revision; None if not known before it is loaded.

    Raises
    ------
    StoreError
        If no store can hold model or revision under its name.
    """

    checkpoint: Checkpoint
    corpus: str
    settings: Settings = field(default_factory=Settings)
    step: int | None = None
    commit: str | None = None

    def __post_init__(self) -> None:
        check_name("model", self.checkpoint.stored_name)
        check_name("revision", self.checkpoint.stored_revision)

    def fingerprint(self) -> str | None:
        """Return what tells that the checkpoint is as it was, None if unknown before it is loaded.

        Raises
        ------
        IngestError, UnknownNameError
            If it is not there.
        """
        return self.checkpoint.locate().fingerprint() or self.commit

    def identifier(self, *, corpus_sha256: str, fingerprint: str | None) -> str | None:
        """Return the digest of all that is asked, None where it is not known which files of the checkpoint are meant.

        The same request makes the same measurement, so that a store which holds it need not load the model. Versions
        of transformers may read a tokenizer differently. The training step, which the store keeps to one for each
        revision, and what the job may use make no difference.
        """
        settings = dataclasses.asdict(self.settings)
        if settings["tokenizer"] is None:
            del settings["tokenizer"]
        else:  # of a folder what tells that its files changed, of the hub its name
            settings["tokenizer"] = locate_tokenizer(settings["tokenizer"]).fingerprint() or settings["tokenizer"]
        if fingerprint is None:
            return None
        return identifier(
            {
                "schema_version": IDENTITY_VERSION,
                "transformers_version": importlib.metadata.version("transformers"),
                "fingerprint": fingerprint,
                "model": self.checkpoint.stored_name,
                "revision": self.checkpoint.stored_revision,
                "random_init": self.checkpoint.random_init,
                "corpus": self.corpus,
                "corpus_sha256": corpus_sha256,
                **settings,
            }
        )
