"""Figures for a paper: each picture as SVG, PDF and PNG, with its data, its SQL and a caption."""

import json
import os
from pathlib import Path

import vl_convert

from ..errors import AnalysisError
from ..queries.database import Database
from .page import pictures_of
from .picture import Picture, find_subjects

_WIDTH = 468  # of a text block of two columns, in points; panels share it
_DOTS_PER_INCH = 300
_FONT = "Helvetica, Arial, 'Liberation Sans', 'Noto Sans', sans-serif"


def write_figures(
    database: Database,
    folder: str | os.PathLike[str],
    *,
    model: str | None = None,
    corpus: str | None = None,
    family: str | None = None,
) -> list[Path]:
    """Write each picture of a store at the width of a page: SVG, PDF, PNG, data as CSV, and a caption with its SQL.

    Parameters
    ----------
    database
        The store's database, of a folder or a URL.
    folder
        Where the files go, five a picture, which are returned; made if missing, files of the same names are replaced.
    model, corpus, family
        What to picture of the store; None for all.

    Raises
    ------
    UnknownNameError
        If the store has no such model, corpus or family.
    AnalysisError
        If the store has nothing to picture, a file cannot be written, or the extra ``report`` is not installed.

    Examples
    --------
    >>> database = neuronlake.open("neuronlake-store")
    >>> files = neuronlake.write_figures(database, "figures")
    >>> sorted(path.name for path in files if path.stem == "function-map")
    ['function-map.csv', 'function-map.pdf', 'function-map.png', 'function-map.svg', 'function-map.txt']
    """
    folder, written = Path(folder), []
    subjects = find_subjects(database, model=model, corpus=corpus, family=family)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, subject in enumerate(subjects):
            for picture in pictures_of(database, subject):
                name = picture.name if len(subjects) == 1 else f"{picture.name}-{number}"
                for suffix, content in _files(picture, subject.title).items():
                    path = folder / f"{name}.{suffix}"
                    path.write_bytes(content)
                    written.append(path)
    except OSError as error:
        raise AnalysisError(f"cannot write figures to {folder}: {error.strerror}") from error
    if not written:
        raise AnalysisError(f"{database.store} holds nothing to picture; neuronlake ingest measures a model")
    return written


def _files(picture: Picture, about: str) -> dict[str, bytes]:
    chart = picture.chart.to_dict()
    chart["config"] = chart["config"] | {"font": _FONT, "background": "white", "aria": False}
    chart.pop("background", None)
    panels = chart["usermeta"]["panels"]
    chart.get("spec", chart)["width"] = _WIDTH - 110 if panels == 1 else (_WIDTH - 60) // min(panels, 3) - 12
    svg = vl_convert.vegalite_to_svg(json.dumps(chart))
    caption = f"{picture.title} {about}.\n{picture.sentence}\n{picture.reading}\n\n{picture.query}\n"
    return {
        "svg": svg.encode(),
        "pdf": vl_convert.svg_to_pdf(svg),
        "png": vl_convert.svg_to_png(svg, ppi=_DOTS_PER_INCH),
        "csv": picture.rows.write_csv().encode(),
        "txt": caption.encode(),
    }
