"""Which checkpoint of a model is meant: known before anything is loaded."""

from dataclasses import dataclass

from .source import Source, locate, stored_name

__all__ = ["Checkpoint"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights of a model: those of a revision, or random ones.

    Parameters
    ----------
    model
        Hub id, folder, or path of a ``.gguf`` file.
    revision
        Branch, tag or commit on the hub; the name of a subfolder of a local folder.
    random_init
        Seed of a random initialisation in place of the checkpoint's weights. Weights are drawn on the CPU in float32,
        so that the seed means the same everywhere.
    name
        Name to store the model under; the hub id or folder name if None.
    """

    model: str
    revision: str | None = None
    random_init: int | None = None
    name: str | None = None

    @property
    def stored_name(self) -> str:
        """Name the model is stored under."""
        return self.name or stored_name(self.model)

    @property
    def stored_revision(self) -> str:
        """Name the revision is stored under."""
        return (self.revision or "main") if self.random_init is None else f"random-{self.random_init}"

    def locate(self) -> Source:
        """Return where its files are.

        Raises
        ------
        IngestError, UnknownNameError
            If it is not there.
        """
        return locate(self.model, self.revision, self.random_init)
