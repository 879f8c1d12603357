"""The SQL that Python code runs: one statement a file in ``statements/``, asked for by its name."""

import functools
import itertools
from pathlib import Path


@functools.cache
def statement(name: str) -> str:
    """Return the SQL of ``statements/<name>.sql``, without the comment at its top, which says what it is for."""
    lines = (Path(__file__).parent / "statements" / f"{name}.sql").read_text(encoding="utf-8").splitlines()
    return "\n".join(itertools.dropwhile(lambda line: line.startswith("--"), lines)).strip()
