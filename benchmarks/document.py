"""docs/benchmarks.md from the files of results: prose stays, tables are filled in, each with its command and machine.

A place is `<!-- table: NAME/TITLE -->` … `<!-- end -->`, of the table of that title in results/NAME.json;
`<!-- machines -->` … `<!-- end -->` lists the machines and versions of all tables.
"""

import re
from pathlib import Path

from table import markdown, read

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results"
DOCUMENT = FOLDER.parent / "docs" / "benchmarks.md"
PLACE = re.compile(r"<!-- (machines|table: (\w+)/(.+?)) -->\n.*?<!-- end -->", re.DOTALL)


def results(folder=RESULTS):
    """Return all tables by the name of their benchmark and their title."""
    files = sorted(folder.glob("*.json"))
    return {(file.stem, table["title"]): table for file in files for table in read(file)}


def filled(text, tables):
    """Return the document with its places filled, or told to be empty; raise ValueError where a table has no place."""
    left = dict(tables)

    def fill(place):
        if place[1] == "machines":
            return f"<!-- machines -->\n\n{machines(tables)}\n\n<!-- end -->"
        name, title = place[2], place[3]
        found = left.pop((name, title), None)
        what = shown(found) if found else f"No table yet: `python {name}.py`."
        return f"<!-- table: {name}/{title} -->\n\n{what}\n\n<!-- end -->"

    text = PLACE.sub(fill, text)
    if left:
        places = ", ".join(f"<!-- table: {name}/{title} -->" for name, title in left)
        raise ValueError(f"no place in the document for {places}")
    return text


def shown(table):
    """Return a table, its note, and a line that says how, when and where it was made."""
    machine = table["machine"]
    told = f"load {machine['load']}" if machine["load"] is not None else "load not recorded"
    if table.get("is_read_from_document"):
        told += ", read from this page as it was then"
    made = f"*`{table['command']}`: {table['date']}, {machine['processor']}, {machine['cores']} cores, {told}.*"
    note = [table["note"]] if table["note"] else []
    return "\n\n".join([markdown(table["header"], table["rows"]), *note, made])


def machines(tables):
    """Return a line for each machine and set of versions, with the dates of its tables."""
    dates = {}
    for table in tables.values():
        machine = table["machine"]
        versions = ", ".join(f"{package} {version}" for package, version in machine["packages"].items())
        name = f"{machine['processor']}, {machine['cores']} cores: Python {machine['python']}, {versions}"
        dates.setdefault(name, set()).add(table["date"])
    return "\n".join(f"- {name}. Tables of {', '.join(sorted(of))}." for name, of in sorted(dates.items()))


def render(document=DOCUMENT):
    """Fill the document from the results committed."""
    document.write_text(filled(document.read_text(encoding="utf-8"), results()), encoding="utf-8")
