"""Where the files of a checkpoint are, which revisions there are beside it, and what tells that its files changed."""

import json
import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, cast

from ...errors import IngestError, UnknownNameError, one_line
from ...schema.identity import identifier

__all__ = ["Listing", "Source", "list_revisions", "locate", "locate_tokenizer", "stored_name"]

# What transformers may read of a checkpoint's folder: configuration, code, tokenizer and weights.
_READ = (
    *("*.json", "*.py", "*.txt", "*.jinja", "*.model", "*.spm", "*.tiktoken", "*.codes"),
    *("*.safetensors", "*model*.bin", "*.gguf"),
)
_WEIGHTS = (".safetensors", ".bin", ".gguf")
# What git keeps in place of a large file that was not fetched, and the most bytes that it has.
_POINTER, _POINTER_BYTES = b"version https://git-lfs.github.com/spec/", 1024
# A part of a GGUF file that was split, unless it is the only one.
_GGUF_PART = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.gguf$")
# What sentence-transformers keeps beside the folder of its transformer.
_MODULE = re.compile(r"\d+_(Pooling|WeightedLayerPooling|Normalize|Dense|LayerNorm|Dropout|CNN|LSTM)")
# Written beside them by training, and read by training alone.
_OF_TRAINING = ("trainer_state.json", "*_results.json")


def _as_path(name: str) -> Path:
    """Return the path that a model's or tokenizer's name may be.

    Raises
    ------
    IngestError
        If whether there is anything cannot be told: it is too long, or a folder above it may not be read.
    """
    path = Path(name)
    try:
        path.is_dir()
    except OSError as error:
        raise IngestError(f"cannot read {name}: {error.strerror}") from error
    return path


def stored_name(model: str) -> str:
    """Return the name a model is stored under unless another is given: of a path its last part, else the hub id.

    Examples
    --------
    >>> stored_name("google-bert/bert-base-uncased"), stored_name("downloads/SmolLM2-135M.gguf")
    ('google-bert/bert-base-uncased', 'SmolLM2-135M')
    """
    path = _as_path(model)
    if path.suffix == ".gguf":
        return path.stem
    return path.resolve().name if path.is_dir() else model


@dataclass(frozen=True, slots=True)
class Source:
    """Where transformers reads a checkpoint from.

    Parameters
    ----------
    path
        Folder, or hub id.
    name
        Name its measurements are stored under unless another is given.
    arguments
        What ``from_pretrained`` is told beside the path.
    is_local
        Whether it is a folder or file here.
    """

    path: str
    name: str
    arguments: dict[str, str]
    is_local: bool

    def fingerprint(self) -> str | None:
        """Return a digest of the names, sizes and times of change of the files that loading reads; None of the hub's.

        Nothing is read, so that a file which is altered while it keeps its size and its time of change goes
        unnoticed. Optimizer states, logs and the like, which loading leaves alone, make no difference.

        Raises
        ------
        IngestError
            If the folder cannot be read.
        """
        if not self.is_local:
            return None
        states = [(file.name, state.st_size, state.st_mtime_ns) for file, state in self._files()]
        return identifier({"files": states})

    def check_fetched(self, *, with_weights: bool) -> None:
        """Refuse a folder in which git left pointers in place of files, those of weights left alone if not read.

        Raises
        ------
        IngestError
            If a file is a pointer, or cannot be read.
        """
        for file, state in self._files() if self.is_local else ():
            if state.st_size > _POINTER_BYTES or (file.suffix in _WEIGHTS and not with_weights):
                continue
            try:
                is_pointer = file.read_bytes().startswith(_POINTER)
            except OSError as error:
                raise IngestError(f"cannot read {file}: {error.strerror or error}") from error
            if is_pointer:
                raise IngestError(f"cannot load {file}: it is a Git LFS pointer, not the file; run git lfs pull")

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        folder, file = Path(self.path), self.arguments.get("gguf_file")
        try:
            files = [folder / file] if file else sorted(filter(_is_read, folder.iterdir()))
            return [(each, each.stat()) for each in files]
        except OSError as error:
            raise IngestError(f"cannot read {folder}: {error.strerror or error}") from error

    def cached_commit(self) -> str | None:
        """Return the commit that the hub's revision was last loaded at, None if it never was, or is no hub's."""
        if self.is_local:
            return None
        folder = self._cached()
        return folder.name if folder else None  # its folder is named after the commit

    def files(self, pattern: str) -> list[Path]:
        """Return the files of the checkpoint that match a pattern; of a hub model those that were downloaded."""
        folder = Path(self.path) if self.is_local else self._cached()
        return sorted(folder.glob(pattern)) if folder else []

    def _cached(self) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.path, "config.json", revision=self.arguments.get("revision"))
        return Path(found).parent if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class Listing:
    """The revisions of a model.

    Parameters
    ----------
    kind
        Where they were listed.
    commits
        The commit of each on the hub; None of a folder.
    files
        What lies among them in a folder, and is no revision.
    """

    kind: Literal["hub", "folder"]
    commits: dict[str, str | None]
    files: tuple[str, ...] = ()


def locate(model: str, revision: str | None, random_init: int | None = None) -> Source:
    """Return where a model is.

    Parameters
    ----------
    model
        Hub id, folder, or path of a ``.gguf`` file.
    revision
        Branch, tag or commit on the hub; the name of a subfolder of a local folder.
    random_init
        Seed of the random initialisation that it is for, None if it is for its weights.

    Raises
    ------
    IngestError
        If there is no such folder or file, or it is no model.
    UnknownNameError
        If a folder has no such revision.
    """
    path = _as_path(model)
    if not model:
        raise IngestError("cannot load model '': it has no name")
    if path.is_file() and path.suffix != ".gguf":
        raise IngestError(f"{model} is a file; a model is a hub id, a folder or a .gguf file")
    if path.suffix == ".gguf":
        if not path.is_file():
            raise IngestError(f"no GGUF file {model}")
        if revision is not None:
            raise IngestError(f"{model} is one file and has no revision {revision!r}")
        if _GGUF_PART.search(path.name):
            raise IngestError(f"{model} is one part of a split GGUF file; join the parts: llama-gguf-split --merge")
        return Source(str(path.parent), stored_name(model), {"gguf_file": path.name}, is_local=True)
    if path.is_dir():
        return _in_folder(model, path, revision, random_init)
    if _is_path(model):
        raise IngestError(f"cannot load model {model!r}: there is no such folder")
    return Source(model, model, {"revision": revision} if revision else {}, is_local=False)


def locate_tokenizer(name: str) -> Source:
    """Return where a tokenizer is: a folder, which need hold no model, or a hub id.

    Raises
    ------
    IngestError
        If there is no such folder.
    """
    path = _as_path(name)
    if name and path.is_dir():
        return Source(name, name, {}, is_local=True)
    if not name or _is_path(name) or path.is_file():
        raise IngestError(f"cannot load tokenizer {name!r}: there is no such folder")
    return locate(name, None)


def _is_path(name: str) -> bool:
    """Return whether a name can only be a path: no hub id looks like it."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def _in_folder(model: str, path: Path, revision: str | None, random_init: int | None) -> Source:
    name, listing = stored_name(model), _list_folder(path)
    revisions = [each for each in listing.commits if (path / each / "config.json").is_file()]
    if revision is not None:
        if revision in revisions:
            return Source(str(path / revision), name, {}, is_local=True)
        if revision in listing.files:
            raise IngestError(f"cannot load model {model!r}: {revision} is a file, not a folder")
        if revision not in listing.commits:
            raise UnknownNameError("revision", revision, revisions, where=f"the folder {model}")
        if not (path / revision).exists():
            target = (path / revision).readlink()
            raise IngestError(f"cannot load model {model!r}: {revision} links to {target}, which does not exist")
        raise IngestError(f"cannot load model {model!r}: its folder {revision} has no config.json")
    if not (path / "config.json").is_file() or (revisions and not _describes_model(path)):
        hint = ""
        if revisions and random_init is None:
            hint = f"; it holds the revisions {', '.join(revisions)}: choose with --revision"
        elif revisions:
            hint = (
                f"; random initialisation needs one configuration: ingest {path / revisions[0]} "
                f"--random-init {random_init} --name {name}"
            )
        elif (path / "adapter_config.json").is_file():
            hint = "; it holds an adapter, which is no model: merge it into its base model and save that"
        raise IngestError(f"cannot load model {model!r}: the folder has no config.json of a model{hint}")
    return Source(str(path), name, {}, is_local=True)


def _describes_model(folder: Path) -> bool:
    """Return whether a folder's configuration may be a model's; sentence-transformers kept another under its name."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return True  # it is read again, and why it cannot be read is said then
    return not isinstance(config, dict) or not {"model_type", "vocab_size"}.isdisjoint(config)


def list_revisions(model: str) -> Listing:
    """Return the revisions of a model: a folder's subfolders, hidden ones left out, or the hub's branches and tags.

    A subfolder that is no checkpoint is among them, and a link to what is not there: a series may have broken ones.

    Raises
    ------
    IngestError
        If it is one file, or the hub does not list its branches.
    """
    path = _as_path(model)
    if path.is_file() or path.suffix == ".gguf":
        raise IngestError(f"{model} is one file and has no revisions")
    if path.is_dir():
        return _list_folder(path)
    locate(model, None)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    # The hub's error is one of its HTTP client's, whichever it is: of a host that is not reached there is no other.
    http_error = cast("type[Exception]", HfHubHTTPError.__mro__[1])
    try:
        refs = HfApi().list_repo_refs(model)
    except (http_error, OSError, ValueError) as error:
        raise IngestError(
            f"cannot list the revisions of model {model!r} (no such folder here, and the hub did not give them): "
            f"{one_line(error)}"
        ) from error
    # A branch goes before a tag of the same name, as it does where it is loaded.
    return Listing("hub", {each.name: each.target_commit for each in (*refs.tags, *refs.branches)})


def _list_folder(path: Path) -> Listing:
    shown = sorted(each for each in path.iterdir() if each.name[0] != "." and not _MODULE.fullmatch(each.name))
    files = tuple(each.name for each in shown if each.exists() and not each.is_dir())
    return Listing("folder", dict.fromkeys(each.name for each in shown if each.name not in files), files)


def _is_read(file: Path) -> bool:
    """Return whether loading a checkpoint may read a file of its folder."""

    def is_named(patterns: tuple[str, ...]) -> bool:
        return any(fnmatchcase(file.name, pattern) for pattern in patterns)

    return is_named(_READ) and not is_named(_OF_TRAINING) and file.is_file()
