"""The section of a page that says what was measured, and what is missing with the command that would add it."""

import html
import shlex
from collections.abc import Iterable, Sequence

from ..errors import printable
from ..queries import quoting
from ..queries.database import Database
from ..queries.status import gaps
from .picture import plural
from .subjects import Subject


def measured(database: Database, shown: Sequence[Subject], others: Sequence[Subject]) -> str:
    """Return the section as HTML: a row a measurement that is shown, what it lacks, and `others`, which are not."""
    heads = ("model", "revision", "corpus", "neurons", "layers", "functions", "instances", "beside it")
    rows = "".join(f"<tr>{_cells(heads, _row(subject))}</tr>" for subject in shown)
    table = (
        '<div class="scroll"><table class="measured"><thead><tr>'
        + "".join(f"<th>{head}</th>" for head in heads)
        + f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )
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
    return f'<h2 id="measured" class="first">What was measured</h2>{table}{lacking}'


def escaped(text: object) -> str:
    """Return a text of the store as HTML shows it."""
    return html.escape(printable(str(text)))


def _row(subject: Subject) -> tuple[object, ...]:
    beside = [
        *["a random initialisation"] * (subject.random_run_id is not None),
        *[f"{plural(subject.n_control_draws, 'set')} of controls"] * (subject.n_control_draws > 0),
        *[f"{len(subject.series)} checkpoints"] * (len(subject.series) > 0),
    ]
    counts = (subject.n_neurons, subject.n_layers, subject.n_functions, subject.n_instances)
    return (
        subject.model,
        subject.revision,
        subject.corpus or "imported scores",
        *counts,
        ", ".join(beside) or "nothing",
    )


def _cells(heads: Sequence[str], row: Sequence[object]) -> str:
    """Return the cells of a row, each with its head, which a narrow page shows beside it."""
    shown = [f"{value:,}" if isinstance(value, int) else "" if value is None else value for value in row]
    return "".join(f'<td data-head="{head}">{escaped(value)}</td>' for head, value in zip(heads, shown, strict=True))


def _missing(database: Database, subject: Subject) -> Iterable[tuple[str, str]]:
    """Yield what a measurement lacks, and the command that adds it."""
    for gap in gaps(database, subject.run_id):
        yield f"{gap['what']}: {gap['names']}" if gap["n"] != 1 else str(gap["what"]), str(gap["command"])
    if subject.left_out:
        listed = f"from runs where model = {quoting.literal(subject.model)}"
        what = f"not pictured here: {plural(len(subject.left_out), 'other revision')}, {', '.join(subject.left_out)}"
        yield what, f"neuronlake sql {shlex.quote(listed)}"
