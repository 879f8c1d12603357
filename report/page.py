"""The report: one HTML file that needs nothing else, of all that a store holds, and what it lacks."""

import base64
import hashlib
import html
import json
import os
import shlex
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import vl_convert

from ..errors import AnalysisError, plural, printable
from ..queries import quoting
from ..queries.database import Database
from ..queries.output import write_whole
from ..queries.status import gaps
from ..schema.commits import neuronlake_version
from . import experts, neurons, perturbation, training  # noqa: F401  # they fill PICTURES
from .cards import neuron_cards
from .picture import PICTURES, TEXTS, Picture, Subject, find_subjects

_MOST_SUBJECTS = 6  # models on corpora in one page; others are named


def write_report(
    database: Database,
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    corpus: str | None = None,
    family: str | None = None,
) -> Path:
    """Write one HTML file with pictures of a store: charts with a sentence each, and cards of neurons.

    The file holds all that it needs, makes no request, and is the same for the same store.

    Parameters
    ----------
    database, path
        The store's database, of a folder or a URL, and the file, which is replaced if it exists, and returned.
    model, corpus, family
        What to picture of the store; None for all.

    Raises
    ------
    UnknownNameError
        If the store has no such model, corpus or family.
    AnalysisError
        If the store holds no runs, the file cannot be written, or the extra ``report`` is not installed.

    Examples
    --------
    >>> database = neuronlake.open("neuronlake-store")
    >>> neuronlake.write_report(database, "report.html").stat().st_size > 500_000
    True
    """
    subjects = find_subjects(database, model=model, corpus=corpus, family=family)
    shown, path = subjects[:_MOST_SUBJECTS], Path(path)
    if not shown:
        raise AnalysisError(f"{database.store} holds no runs to picture; neuronlake ingest measures a model")
    data: dict[str, list[Any]] = {"pictures": [], "subjects": []}
    body = [measured(database, shown, subjects[_MOST_SUBJECTS:])]
    for number, subject in enumerate(shown):
        body.append(f'<h2 id="model-{number}">{escaped(subject.title)}</h2>')
        cards: dict[str, Any] = {}
        for picture in pictures_of(database, subject):
            identifier = f"{picture.name}-{number}"
            body.append(_figure(picture, identifier))
            embedded = {"id": identifier, "name": picture.name, "subject": number, "sentence": picture.sentence}
            embedded |= {"spec": picture.chart.to_dict(), "columns": picture.rows.columns, "rows": picture.rows.rows()}
            data["pictures"].append(embedded)
            if picture.name == "function-map":
                cards = neuron_cards(database, subject, picture.rows)
                body.append(_cards(cards, number))
        data["subjects"].append(cards)
    page = _page(subjects, shown, body, data)
    try:
        write_whole(path, lambda file: file.write_text(page, encoding="utf-8", newline="\n"))
    except OSError as error:
        raise AnalysisError(f"cannot write {path}: {error.strerror}") from error
    return path


def pictures_of(database: Database, subject: Subject) -> list[Picture]:
    """Return the pictures for which a measurement has data, in the order of a page."""
    return [picture for name in TEXTS if (picture := PICTURES[name](database, subject))]


def _page(subjects: Sequence[Subject], shown: Sequence[Subject], body: Iterable[str], data: object) -> str:
    vega: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    scripts = {"vega": vega.replace("</script", "<\\/script"), "script": _read("page.js")}
    style = _read("page.css")
    # "<" as an escape: what a text or a name spells neither ends the element nor begins another.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    models = plural(len({subject.model for subject in subjects}), "model")
    title, what = f"{len(subjects)} measurements of {models}", f"the feed-forward neurons of {models}"
    if len(subjects) == 1:
        title, only = shown[0].title, shown[0]
        what = f"{only.n_neurons:,} neurons in {plural(only.n_layers, 'layer')}"
    links = [("measured", "What was measured"), *((f"model-{n}", each.title) for n, each in enumerate(shown))]
    return string.Template(_read("page.html")).substitute(
        scripts,
        script_hashes=" ".join(map(_digest, scripts.values())),
        style_hash=_digest(style),
        style=style,
        title=escaped(title),
        lede=f"What {what} respond to, beside what chance, random weights and control labels give.",
        navigation="".join(f'<a href="#{place}">{escaped(name)}</a>' for place, name in links),
        body="\n".join(body),
        version=neuronlake_version(),
        data=text,
    )


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Return what a content security policy allows an inline script or style by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _figure(picture: Picture, identifier: str) -> str:
    texts = {name: escaped(getattr(picture, name)) for name in ("title", "sentence", "reading")}
    is_map, query = int(picture.name == "function-map"), html.escape(picture.query)
    return string.Template(_read("figure.html")).substitute(texts, identifier=identifier, is_map=is_map, query=query)


def _cards(cards: dict[str, Any], subject: int) -> str:
    layers = [layer if stack == "encoder" else f"{stack} {layer}" for stack, layer in cards["layers"]]
    functions = [f"{family}/{function}" for family, function in cards["functions"]]
    options = [
        "".join(
            f'<option value="{index}"{" selected" * (index == int(first))}>{escaped(name)}</option>'
            for index, name in enumerate(names)
        )
        for names, first in zip((functions, layers), cards["first"].split(","), strict=True)
    ]
    return string.Template(_read("cards.html")).substitute(subject=subject, functions=options[0], layers=options[1])


def measured(database: Database, shown: Sequence[Subject], others: Sequence[Subject]) -> str:
    """Return the section as HTML: a row a measurement that is shown, what it lacks, and `others`, which are not."""
    rows = [_row(subject) for subject in shown]
    heads = "".join(f"<th>{head}</th>" for head in rows[0])
    # A narrow page shows its head beside each cell.
    cells = ["".join(f'<td data-head="{head}">{escaped(value)}</td>' for head, value in row.items()) for row in rows]
    missing = [
        (f"{subject.title}: {what}" if len(shown) > 1 else what[0].upper() + what[1:], command)
        for subject in shown
        for what, command in _missing(database, subject)
    ]
    if others:
        names = ", ".join(subject.title for subject in others)
        missing.append((f"Not pictured here: {names}", "neuronlake report --model MODEL"))
    items = "".join(f"<li>{escaped(what)}. <code>{escaped(command)}</code></li>" for what, command in missing)
    lacking = f'<h3>What is missing</h3><ul class="missing">{items}</ul>' if missing else ""
    body = "</tr><tr>".join(cells)
    table = f'<table class="measured"><thead><tr>{heads}</tr></thead><tbody><tr>{body}</tr></tbody></table>'
    return f'<h2 id="measured" class="first">What was measured</h2><div class="scroll">{table}</div>{lacking}'


def escaped(text: object) -> str:
    """Return a text of the store as HTML shows it."""
    return html.escape(printable(str(text)))


def _row(subject: Subject) -> dict[str, str]:
    beside = (
        "a random initialisation" if subject.random_run_id else "",
        f"{plural(subject.n_control_draws, 'set')} of controls" if subject.n_control_draws else "",
        f"{len(subject.series)} checkpoints" if subject.series else "",
    )
    return {
        "model": subject.model,
        "revision": subject.revision,
        "corpus": subject.corpus or "imported scores",
        "neurons": f"{subject.n_neurons:,}",
        "layers": f"{subject.n_layers:,}",
        "functions": f"{subject.n_functions:,}",
        "instances": "" if subject.n_instances is None else f"{subject.n_instances:,}",
        "beside it": ", ".join(filter(None, beside)) or "nothing",
    }


def _missing(database: Database, subject: Subject) -> Iterable[tuple[str, str]]:
    """Yield what a measurement lacks, and the command that adds it."""
    for gap in gaps(database, subject.run_id):
        yield f"{gap['what']}: {gap['names']}" if gap["n"] != 1 else str(gap["what"]), str(gap["command"])
    if subject.left_out:
        listed = f"from runs where model = {quoting.literal(subject.model)}"
        what = f"not pictured here: {plural(len(subject.left_out), 'other revision')}, {', '.join(subject.left_out)}"
        yield what, f"neuronlake sql {shlex.quote(listed)}"
