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
    return (
        f'<h2 id="measured" class="first">What was measured</h2><div class="scroll"><table class="measured"><thead><tr>'
        f"{heads}</tr></thead><tbody><tr>{'</tr><tr>'.join(cells)}</tr></tbody></table></div>{lacking}"
    )


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
