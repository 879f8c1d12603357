"""Names as parts of paths: of jobs, corpora, models and revisions."""

import unicodedata
from urllib.parse import quote

from ..errors import StoreError

__all__ = ["check_name", "corpus_job", "folder_name"]

# A file system takes 255 bytes. Before the name of a corpus stands the kind of its job; part and suffix follow.
_LONGEST = 230


def corpus_job(corpus: str) -> str:
    """Return the name of the job that makes the corpus called `corpus`."""
    return f"corpus-{corpus}"


def folder_name(name: str) -> str:
    """Return `name` as one safe path component, as the hub writes it: ``google/switch`` is ``google--switch``."""
    safe = quote(name.replace("/", "--"), safe="-_.+ ,()@", errors="surrogatepass").lstrip(".")
    return safe or "_"


def check_name(what: str, name: str) -> None:
    """Raise unless a store can hold something of this name: asked before hours are spent on it.

    Parameters
    ----------
    what
        What is called so: model, revision or corpus.
    name
        The name.

    Raises
    ------
    StoreError
        If it is empty, too long, not valid Unicode, of dots alone, ends like a data file or holds control characters.
    """
    n_bytes = len(folder_name(name))
    if not name.strip(" ."):
        problem = "it is empty, or of dots alone"
    elif any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        problem = "it holds control characters, or bytes that are no UTF-8"
    elif name.lower().endswith(".parquet"):
        problem = "readers would take its folder for a file of data"
    elif n_bytes > _LONGEST:
        problem = f"as a path it takes {n_bytes} bytes of at most {_LONGEST}"
    else:
        return
    shown = name if len(name) <= 60 else name[:59] + "…"
    raise StoreError(f"{what} {shown!r} cannot be stored under this name: {problem}; give another")
