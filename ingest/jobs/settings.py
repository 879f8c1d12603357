"""What defines a measurement, what a job may use, and what it is asked to measure, before anything is loaded."""

import dataclasses
import functools
import importlib.metadata
import itertools
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import get_args

from ...errors import IngestError, check_known, check_settings
from ...schema.names import IDENTITY_VERSION, check_name, identifier
from ...schema.vocabulary import Addition, ControlTask, DType, Halves, Pooling, Router, Site, SpecialTokens, Storage
from ..corpora.control_tasks import default_control
from ..corpora.stored import StoredCorpus
from ..models.checkpoint import Checkpoint, locate_tokenizer

# Settings that runs made before them have at these values: there they are no part of a digest, so that ids stay.
_ADDED = {"special_tokens": "drop", "halves": "text", "min_instances": 0}


@dataclass(frozen=True, slots=True)
class Settings:
    """What defines a measurement, beside the model and the corpus.

    Parameters
    ----------
    site
        Which value of a neuron is read: its activation, its gate, or what enters the nonlinearity.
    pooling
        How the values at an instance's tokens become one.
    router
        In a mixture of experts, ``routed`` reads an expert's neurons as 0 for tokens that are not sent to it; ``blind``
        runs every expert on every token. No effect in a dense model.
    dtype, storage
        Floating-point types of the weights and the forward pass, and of pooled activations until they are scored.
    layers
        Layers to measure; None for all.
    max_tokens
        Longest text in tokens; the model's own limit where that is lower.
    n_top
        Number of top instances kept for each neuron.
    tokenizer
        Hub id or folder of the tokenizer to use; None for the checkpoint's own. The tokens it produces, not its name,
        are part of what defines a measurement.
    special_tokens
        Whether the tokens that the tokenizer puts around a text count. ``keep`` pools over them too where an instance
        is a whole text, as do the authors of the paper, and over all that a decoder reads of a target; a span has none.
    halves
        What halves a and b have none of in common: texts (and groups of texts), or words. A word is a span's
        characters, casefolded; whole texts among spans stay in the half of their text.
    min_instances
        Least measured instances of each class, positive and negative, that a function needs in either half; functions
        with fewer are not measured.

    Raises
    ------
    UnknownNameError, IngestError
        If a choice is unknown; if a number is too small.

    Examples
    --------
    >>> Settings(pooling="mean", layers=(0, 1)).site
    'activation'
    """

    site: Site = "activation"
    pooling: Pooling = "max"
    router: Router = "routed"
    dtype: DType = "float32"
    storage: Storage = "float32"
    layers: tuple[int, ...] | None = None
    max_tokens: int = 512
    n_top: int = 10
    tokenizer: str | None = None
    special_tokens: SpecialTokens = "drop"
    halves: Halves = "text"
    min_instances: int = 0

    def __post_init__(self) -> None:
        check_settings(self, IngestError, max_tokens=1, n_top=0, min_instances=0)
        if self.layers is not None:  # order and repetition mean nothing
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))

    def definition(self) -> dict[str, object]:
        """Return the settings that digests are made of, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if (name, value) not in _ADDED.items()}


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job may use; results do not depend on it beyond rounding.

    Parameters
    ----------
    device
        Torch device; ``auto`` takes a GPU where there is one, ``split`` spreads the layers over all GPUs.
    batch_tokens
        Tokens in one batch, padding included; None for 4,096 on a CPU and 32,768 on a GPU.
    memory_bytes
        Most memory for activations, beside the model; they are kept on disk until they are scored.

    Raises
    ------
    IngestError
        If a number is below 1.

    Examples
    --------
    >>> Resources(device="cpu", memory_bytes=1 << 30).batch_tokens is None
    True
    """

    device: str = "auto"
    batch_tokens: int | None = None
    memory_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        check_settings(self, IngestError, memory_bytes=1, batch_tokens=1)

    def check_device(self, label: str) -> None:
        """Raise an IngestError if the device is not there; `label` names the model in it."""
        if self.device not in ("auto", "cpu"):  # these are on any machine: no need to import torch to know
            import torch

            from ..models.devices import place

            place(torch.nn.Linear(1, 1), self.device, label)


@dataclass(frozen=True, slots=True)
class Controls:
    """Which control functions to score beside a run's own: their labels permuted, while units keep theirs together.

    Parameters
    ----------
    tasks
        What keeps its labels together: ``instance`` (nothing), ``text``, ``group`` (of texts), ``word`` or
        ``word-in-stratum`` (a word, whose labels stay in their stratum, such as a part of speech; functions that the
        strata fix are left out). None: the strictest that the corpus allows: ``word-in-stratum`` or ``word`` where all
        instances have words, ``group`` or ``text`` where texts hold several instances, else ``instance``.
    n_draws
        Permutations of each. Those that the store holds are not made again.

    Raises
    ------
    UnknownNameError, IngestError
        If there is no such task; if a number is out of range.

    Examples
    --------
    >>> Controls(tasks=("word",), n_draws=5).n_draws
    5
    """

    tasks: tuple[ControlTask, ...] | None = None
    n_draws: int = 1

    def __post_init__(self) -> None:
        check_known("control task", self.tasks or (), get_args(ControlTask))
        check_settings(self, IngestError, n_draws=1)

    @staticmethod
    def job_name(run_id: str, task: ControlTask, draw: int) -> str:
        """Return the name of the job that adds one draw of a task to a run."""
        return f"controls-{identifier({'run_id': run_id, 'control': task, 'draw': draw})}"


@dataclass(frozen=True, slots=True)
class Coactivation:
    """Which co-activation to measure.

    Parameters
    ----------
    n_partners
        Partners kept for each neuron, closest first.
    active_share
        Share of the instances on which a neuron counts as active, those where its pooled activation is highest; None:
        active where it is positive. Instances tied at the cut do not count, so there may be fewer.

    Raises
    ------
    IngestError
        If a value is out of range.

    Examples
    --------
    >>> Coactivation(n_partners=16, active_share=0.05).activity
    'top-0.05'
    """

    n_partners: int = 32
    active_share: float | None = None

    def __post_init__(self) -> None:
        check_settings(self, IngestError, n_partners=1)
        if self.active_share is not None and not 0 < self.active_share < 1:
            raise IngestError(f"active_share is {self.active_share}; it must be above 0 and below 1")

    @property
    def activity(self) -> str:
        """When a neuron counts as active, as the table names it: ``positive`` or ``top-<share>``."""
        return "positive" if self.active_share is None else f"top-{self.active_share}"

    def n_highest(self, n_instances: int) -> int | None:
        """Return the most instances a neuron can be active on; None where activity means positive."""
        if self.active_share is None:
            return None
        # As the share is written: 0.29 of 100 is 29, though the float is a little less.
        n_highest = math.floor(Fraction(str(self.active_share)) * n_instances)
        if n_highest < 1:
            raise IngestError(f"active_share is {self.active_share}, less than one of {n_instances:,} instances")
        return n_highest

    def job_name(self, run_id: str) -> str:
        """Return the name of the job that adds these coactivations to a run."""
        definition = {"run_id": run_id, "activity": self.activity, "n_partners": self.n_partners}
        return f"coactivation-{identifier(definition)}"


@functools.cache
def transformers_version() -> str:
    """Return the version of transformers that is installed, without importing it."""
    return importlib.metadata.version("transformers")


@dataclass(frozen=True, slots=True)
class Request:
    """One checkpoint to measure on one corpus of a store, with what may be used and what is made beside the run."""

    checkpoint: Checkpoint
    corpus: StoredCorpus
    settings: Settings = field(default_factory=Settings)
    resources: Resources = field(default_factory=Resources)
    coactivation: Coactivation | None = None
    controls: Controls | None = None
    additions: tuple[Addition, ...] = ()
    dry_run: bool = False
    step: int | None = None  # training step; None: the step in the revision's name
    commit: str | None = None  # commit of a hub revision; None if not known before it is loaded

    def __post_init__(self) -> None:
        check_name("model", self.checkpoint.stored_name)
        check_name("revision", self.checkpoint.stored_revision)
        check_known("addition", self.additions, get_args(Addition))

    def identifier(self, fingerprint: str | None) -> str | None:
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
                "corpus": self.corpus.name,
                "corpus_sha256": self.corpus.sha256,
                **settings,
            }
        )

    def lacking_additions(self, run_id: str) -> tuple[Addition, ...]:
        """Return what is to be added to a run and is not in the store, in the order in which it is made."""
        asked = [addition for addition in get_args(Addition) if addition in self.additions]
        return tuple(addition for addition in asked if self.corpus.store.commit(f"{addition}-{run_id}") is None)

    def lacking_controls(self, run_id: str) -> list[tuple[ControlTask, int]]:
        """Return the controls of a run that are asked for and that the store lacks, by task and draw."""
        if self.controls is None:
            return []
        tasks = self.controls.tasks or (default_control(self.corpus),)
        asked = itertools.product(dict.fromkeys(tasks), range(self.controls.n_draws))
        return [each for each in asked if self.corpus.store.commit(Controls.job_name(run_id, *each)) is None]
