"""Training steps: read from a revision's name or a file, and those at which a series seems to lack checkpoints."""

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...errors import IngestError, one_line

_MAX_STEP = 2**63 - 1  # the largest training step that a store can hold

_STEP = re.compile(
    r"(?:^|[^a-z])(?:global[-_]?step|step|checkpoint|ckpt|iteration|iter)s?[-_=]?(\d+)([km]?)(?![0-9a-z])",
    re.IGNORECASE,
)
_FACTORS = {"": 1, "k": 1000, "m": 1_000_000}


def parse_step(revision: str) -> int | None:
    """Return the training step in a revision's name; None if there is none, or one larger than a store can hold.

    >>> parse_step("step3000"), parse_step("iter_0001000"), parse_step("step_5k"), parse_step("main")
    (3000, 1000, 5000, None)
    """
    match = _STEP.search(revision)
    step = int(match[1]) * _FACTORS[match[2].lower()] if match else None
    return None if step is None or step > _MAX_STEP else step


def read_steps(file: Path) -> dict[str, int]:
    """Read training steps by revision from a CSV file with columns revision and step, or from a JSON object."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise ValueError("it is empty")
        if file.suffix.lower() == ".json":
            pairs = json.loads(text, object_pairs_hook=tuple)  # as pairs, so that a revision named twice is seen
            if not isinstance(pairs, tuple):
                raise ValueError("it is no JSON object of steps by revision")
        else:
            rows = csv.DictReader(text.strip().splitlines(), restval="", strict=True)
            rows.fieldnames = names = [name.strip() for name in rows.fieldnames or ()]
            if missing := {"revision", "step"} - set(names):
                raise ValueError(f"it has no column {min(missing)}; there are: {', '.join(names)}")
            cells = [(row["revision"].strip(), row["step"].strip()) for row in rows]
            pairs = [(revision, int(step) if step.isdecimal() else step) for revision, step in cells]
    except (OSError, ValueError, csv.Error) as error:
        raise IngestError(f"cannot read the steps in {file}: {one_line(error)}") from error
    steps: dict[str, int] = {}
    for revision, step in pairs:
        if not revision:
            raise IngestError(f"{file}: step {step} has no revision")
        if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step <= _MAX_STEP:
            problem = f"revision {revision!r} has step {step!r}"
            raise IngestError(f"{file}: {problem}, which is no whole number from 0 to 2**63 - 1")
        if steps.setdefault(revision, step) != step:
            raise IngestError(f"{file}: revision {revision!r} has two steps, {steps[revision]} and {step}")
    if not steps:
        raise IngestError(f"{file} names no revision")
    return steps


def gaps(steps: Iterable[int]) -> Iterator[tuple[list[int], str]]:
    """Yield the steps at which checkpoints seem to be missing from a series, gap by gap, and how the others are apart.

    Where the gaps before and after a gap are equal, in difference or in ratio (rounded to whole steps), and the gap
    itself is as wide as several of them, the steps that would divide it are missing. Nothing is concluded from gaps of
    a single step, which come about by rounding.

    >>> list(gaps([0, 1000, 2000, 4000, 5000])), list(gaps([1, 2, 4, 16, 32, 64]))
    ([([3000], '1000 apart')], [([8], '2 times the one before')])
    """
    known = sorted(set(steps))
    for before, first, last, after in zip(known, known[1:], known[2:], known[3:], strict=False):
        apart, gap = first - before, last - first
        if apart == after - last and apart > 1 and gap % apart == 0 and gap > apart:
            yield list(range(first + apart, last, apart)), f"{apart} apart"
        elif (n_parts := _equal_ratios(before, first, last, after)) > 1:
            ratio = (last / first) ** (1 / n_parts)
            yield [round(first * ratio**part) for part in range(1, n_parts)], f"{ratio:.3g} times the one before"


def _equal_ratios(before: int, first: int, last: int, after: int) -> int:
    """Return into how many parts of the neighbours' ratio a gap divides; 0 if it does not, or theirs differ."""
    if before < 2:  # rounding may have made anything of it
        return 0

    def bounds(low: int, high: int) -> tuple[float, float]:
        return (high - 1) / (low + 1), (high + 1) / (low - 1)  # steps are whole, and may have been rounded up or down

    least = max(bounds(before, first)[0], bounds(last, after)[0])
    most = min(bounds(before, first)[1], bounds(last, after)[1])
    gap_least, gap_most = bounds(first, last)
    if least > most or least <= 1 or gap_least <= most:
        return 0
    ratio = math.sqrt(first / before * after / last)
    n_parts = round(math.log(last / first) / math.log(ratio))
    return n_parts if least**n_parts <= gap_most and most**n_parts >= gap_least else 0
