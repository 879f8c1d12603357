"""Which checkpoint of a model is meant, where its files are, and which revisions there are beside it.

Nothing is loaded here, and no library of models imported.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import IngestError, UnknownNameError, one_line
from ...schema.names import identifier

# What transformers may read of a checkpoint's folder: configuration, code, tokenizer and weights; not what training
# writes beside them for itself.
_READ = re.compile(
    r"(?s)(?!trainer_state\.json$|.*_results\.json$)"
    r".*(\.(json|py|txt|jinja|model|spm|tiktoken|codes|safetensors|gguf)|model.*\.bin)"
)
_WEIGHTS = (".safetensors", ".bin", ".gguf")
# What git keeps in place of a large file that was not fetched, and the most bytes that it has.
_POINTER, _POINTER_BYTES = b"version https://git-lfs.github.com/spec/", 1024
# A part of a GGUF file that was split, unless it is the only one.
_GGUF_PART = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.gguf$")
# What sentence-transformers keeps beside the folder of its transformer.
_MODULE = re.compile(r"\d+_(Pooling|WeightedLayerPooling|Normalize|Dense|LayerNorm|Dropout|CNN|LSTM)")


@dataclass(frozen=True, slots=True)
class Source:
    """Where transformers reads a checkpoint or tokenizer from."""

    path: str  # folder, or hub id
    name: str  # the name it was asked for by, for errors
    arguments: dict[str, str]  # what ``from_pretrained`` takes beside the path
    is_local: bool  # whether it is a folder or file here, not on the hub

    def fingerprint(self) -> str | None:
        """Return a digest of the names, sizes and modification times of the files that loading reads; None on the hub.

        A change that keeps a file's size and time goes unnoticed. Files that loading does not read, such as optimizer
        states and logs, make no difference.
        """
        if not self.is_local:
            return None
        return identifier({"files": [(file.name, state.st_size, state.st_mtime_ns) for file, state in self._files()]})

    def check_fetched(self, *, with_weights: bool, noun: str = "model") -> None:
        """Raise `IngestError` if a file is a pointer of Git LFS, or nothing is cached and the hub cannot be reached."""
        if not self.is_local:
            self._check_hub(noun)
            return
        for file, state in self._files():
            if state.st_size > _POINTER_BYTES or (file.suffix in _WEIGHTS and not with_weights):
                continue
            try:
                is_pointer = file.read_bytes().startswith(_POINTER)
            except OSError as error:
                raise IngestError(f"cannot read {file}: {error.strerror or error}") from error
            if is_pointer:
                raise IngestError(f"cannot load {file}: it is a Git LFS pointer, not the file; run git lfs pull")

    def cached_commit(self) -> str | None:
        """Return the commit that the hub's revision was last loaded at, None if it never was or is a folder."""
        folder = None if self.is_local else self._cached()
        return folder.name if folder else None  # its folder is named after the commit

    def files(self, pattern: str) -> list[Path]:
        """Return the checkpoint's files that match a shell-style pattern; of a hub model, those downloaded."""
        folder = Path(self.path) if self.is_local else self._cached()
        return sorted(folder.glob(pattern)) if folder else []

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        folder, gguf_file = Path(self.path), self.arguments.get("gguf_file")
        try:
            read = (file for file in folder.iterdir() if _READ.fullmatch(file.name) and file.is_file())
            return [(file, file.stat()) for file in ([folder / gguf_file] if gguf_file else sorted(read))]
        except OSError as error:
            raise IngestError(f"cannot read {folder}: {error.strerror or error}") from error

    def _cached(self) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        file = try_to_load_from_cache(self.path, "config.json", revision=self.arguments.get("revision"))
        return Path(file).parent if isinstance(file, str) else None

    def _check_hub(self, noun: str) -> None:
        """Refuse at once where the hub cannot be reached and nothing is cached: transformers would try for a minute."""
        from huggingface_hub import HfApi, constants
        from huggingface_hub.errors import HfHubHTTPError

        if Path(constants.HF_HUB_CACHE, f"models--{self.path.replace('/', '--')}").exists():
            return
        try:
            HfApi().model_info(self.path, timeout=10)
        except (HfHubHTTPError, ValueError):
            return  # it was reached, or the name cannot be one of its; transformers says what is wrong
        except hub_errors() as error:
            where = "no such folder here, and the hub cannot be reached"
            remedy = "a name in a store is not enough, name the files by their folder"
            raise IngestError(f"cannot load {noun} {self.name!r} ({where}; {remedy}): {one_line(error)}") from error


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
        """The name the model is stored under: unless one is given, the last part of a path, or the hub id."""
        if self.name:
            return self.name
        path = _as_path(self.model)
        if path.suffix == ".gguf":
            return path.stem
        return path.absolute().name if path.is_dir() else self.model

    @property
    def stored_revision(self) -> str:
        """The name the revision is stored under: its own, ``main``, or ``random-`` and the seed."""
        return (self.revision or "main") if self.random_init is None else f"random-{self.random_init}"

    def locate(self) -> Source:
        """Return where its files are; raise `IngestError` or `UnknownNameError` if they are not there."""
        model, path = self.model, _as_path(self.model)
        if not model:
            raise IngestError("cannot load model '': it has no name")
        if path.suffix == ".gguf":
            if not path.is_file():
                raise IngestError(f"no GGUF file {model}")
            if self.revision is not None:
                raise IngestError(f"{model} is one file and has no revision {self.revision!r}")
            if _GGUF_PART.search(path.name):
                raise IngestError(f"{model} is one part of a split GGUF file; join the parts: llama-gguf-split --merge")
            return Source(str(path.parent), model, {"gguf_file": path.name}, is_local=True)
        if path.is_file():
            raise IngestError(f"{model} is a file; a model is a hub id, a folder or a .gguf file")
        if path.is_dir():
            return Source(str(self._folder(path)), model, {}, is_local=True)
        if _is_path(model):
            raise IngestError(f"cannot load model {model!r}: there is no such folder")
        return Source(model, model, {"revision": self.revision} if self.revision else {}, is_local=False)

    def _folder(self, path: Path) -> Path:
        """Return the folder of the checkpoint: that of the revision, or the model's own."""
        listing = _list_folder(path)
        revisions = [name for name in listing.commits if (path / name / "config.json").is_file()]
        if self.revision in revisions:
            return path / self.revision
        if self.revision is not None:
            if self.revision not in (*listing.commits, *listing.files):
                raise UnknownNameError("revision", self.revision, revisions, where=f"the folder {self.model}")
            why = f"its folder {self.revision} has no config.json"
            if self.revision in listing.files:
                why = f"{self.revision} is a file, not a folder"
            elif not (path / self.revision).exists():
                why = f"{self.revision} links to {(path / self.revision).readlink()}, which does not exist"
            raise IngestError(f"cannot load model {self.model!r}: {why}")
        if (path / "config.json").is_file() and (not revisions or _describes_model(path)):
            return path
        hint = ""
        if revisions and self.random_init is None:
            hint = f"; it holds the revisions {', '.join(revisions)}: choose with --revision"
        elif revisions:
            given = f"--random-init {self.random_init} --name {Checkpoint(self.model).stored_name}"
            hint = f"; random initialisation needs one configuration: ingest {path / revisions[0]} {given}"
        elif (path / "adapter_config.json").is_file():
            hint = "; it holds an adapter, which is no model: merge it into its base model and save that"
        raise IngestError(f"cannot load model {self.model!r}: the folder has no config.json of a model{hint}")


@dataclass(frozen=True, slots=True)
class Listing:
    """The revisions of a model."""

    kind: Literal["hub", "folder"]  # where they were listed
    commits: dict[str, str | None]  # the commit of each revision on the hub; None for a folder
    files: tuple[str, ...] = ()  # names in the folder that are files, and so no revisions


def locate_tokenizer(name: str) -> Source:
    """Return where a tokenizer is: a folder, which need not hold a model, or a hub id; `IngestError` if nowhere."""
    path = _as_path(name)
    if name and path.is_dir():
        return Source(name, name, {}, is_local=True)
    if not name or _is_path(name) or path.is_file():
        raise IngestError(f"cannot load tokenizer {name!r}: there is no such folder")
    return Checkpoint(name).locate()


def list_revisions(model: str) -> Listing:
    """Return a model's revisions: subfolders that are not hidden, broken ones too, or branches and tags."""
    path = _as_path(model)
    if path.is_file() or path.suffix == ".gguf":
        raise IngestError(f"{model} is one file and has no revisions")
    if path.is_dir():
        return _list_folder(path)
    Checkpoint(model).locate()
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(model)
    except hub_errors() as error:
        problem = f"cannot list the revisions of model {model!r} (no such folder here, and the hub did not give them)"
        raise IngestError(f"{problem}: {one_line(error)}") from error
    # A branch goes before a tag of the same name, as it does where it is loaded.
    return Listing("hub", {ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)})


def hub_errors() -> tuple[type[BaseException], ...]:
    """Return what the hub's client raises."""
    from huggingface_hub.errors import HfHubHTTPError

    # The hub's error is one of its HTTP client's, whichever it is: of a host that is not reached there is no other.
    return HfHubHTTPError.__mro__[1], OSError, ValueError


def _as_path(name: str) -> Path:
    """Return a name as a path; raise `IngestError` if the system cannot say whether anything is there."""
    path = Path(name)
    try:
        path.is_dir()
    except OSError as error:  # it is too long, or a folder above it may not be read
        raise IngestError(f"cannot read {name}: {error.strerror}") from error
    return path


def _is_path(name: str) -> bool:
    """Return whether a name can only be a path: no hub id looks like it."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def _describes_model(folder: Path) -> bool:
    """Return whether a folder's configuration may be a model's; sentence-transformers kept another under its name."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return True  # it is read again, and why it cannot be read is said then
    return not isinstance(config, dict) or not {"model_type", "vocab_size"}.isdisjoint(config)


def _list_folder(path: Path) -> Listing:
    entries = sorted(entry for entry in path.iterdir() if entry.name[0] != "." and not _MODULE.fullmatch(entry.name))
    files = tuple(entry.name for entry in entries if entry.exists() and not entry.is_dir())
    return Listing("folder", dict.fromkeys(entry.name for entry in entries if entry.name not in files), files)
