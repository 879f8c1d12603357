"""Which checkpoint of a model is meant, before anything is loaded; imports no library of models."""

from dataclasses import dataclass

from .source import Source, locate, stored_name


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model with one set of weights: those of a revision, or random ones.

    Parameters
    ----------
    model
        Hub id, folder, or path of a ``.gguf`` file.
    revision
        Branch, tag or commit on the hub; the name of a subfolder of a local folder.
    random_init
        Seed of random weights in place of those of the files. They are drawn on the CPU in float32, so that a seed
        gives the same weights everywhere.
    name
        Name to store the model under; the hub id or folder name if None.

    Examples
    --------
    >>> Checkpoint("EleutherAI/pythia-160m", "step1000").stored_revision
    'step1000'
    >>> Checkpoint("tiny-bert", random_init=0).stored_revision
    'random-0'
    """

    model: str
    revision: str | None = None
    random_init: int | None = None
    name: str | None = None

    @property
    def stored_name(self) -> str:
        """The name the model is stored under."""
        return self.name or stored_name(self.model)

    @property
    def stored_revision(self) -> str:
        """The name the revision is stored under: its own, ``main``, or ``random-`` and the seed."""
        return (self.revision or "main") if self.random_init is None else f"random-{self.random_init}"

    def locate(self) -> Source:
        """Return where its files are.

        Raises
        ------
        IngestError, UnknownNameError
            If they are not there.
        """
        return locate(self.model, self.revision, self.random_init)
