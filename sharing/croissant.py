"""The description of a pack in Croissant (MLCommons), by which catalogues of datasets read tables and columns."""

from collections import defaultdict
from collections.abc import Sequence

from ..schema.card import Facts
from ..schema.commits import Commit, CommittedFile
from ..schema.tables import TABLES

_TERMS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}
_PARQUET = {"encodingFormat": "application/x-parquet"}
_TYPES = {
    "bool": "sc:Boolean",
    "string": "sc:Text",
    "timestamp": "sc:DateTime",
    **dict.fromkeys(("float32", "float64"), "sc:Float"),
    **dict.fromkeys(("int16", "int32", "int64"), "sc:Integer"),
}


def croissant(commits: Sequence[Commit], facts: Facts) -> dict[str, object]:
    """Return the JSON-LD of a pack with these commits: every file with its digest, every table with its columns."""
    files: dict[str, list[CommittedFile]] = defaultdict(list)
    for commit in commits:
        for file in commit.files:
            files[file.table].append(file)
    tables = [table for table in TABLES.values() if files[table.name]]
    distribution, records = [], []
    for file in (file for table in tables for file in files[table.name]):
        size = f"{file.size_bytes} B"
        node = _node("FileObject", file.path, contentUrl=file.path, contentSize=size, sha256=file.sha256)
        distribution.append(node | _PARQUET)
    for table in tables:
        of_files, pattern = f"{table.name}-files", f"data/{table.name}/**/*.parquet"
        parts = [{"@id": file.path} for file in files[table.name]]
        distribution.append(_node("FileSet", of_files, containedIn=parts, includes=pattern) | _PARQUET)
        fields = []
        for column in table.columns:
            source = {"fileSet": {"@id": of_files}, "extract": {"column": column.name}}
            typed = {"dataType": _TYPES[column.type], "source": source}
            fields.append(_node("Field", f"{table.name}/{column.name}", description=column.description, **typed))
        key = [{"@id": f"{table.name}/{name}"} for name in table.grain]
        records.append(_node("RecordSet", table.name, description=table.description, key=key, field=fields))
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "neuronlake-store",
        "description": f"What single neurons of {', '.join(facts.models) or 'transformers'} respond to, as tables.",
        "datePublished": max((commit.committed_at for commit in commits), default="")[:10],
        "version": "1.0.0",
        "citeAs": "neuronlake (CITATION.cff in its repository), and the models and corpora named in the card",
        **({"license": list(facts.licences)} if facts.licences else {}),
        "url": "https://huggingface.co/datasets",
        "distribution": distribution,
        "recordSet": records,
    }


def _node(kind: str, name: str, **properties: object) -> dict[str, object]:
    return {"@type": f"cr:{kind}", "@id": name, "name": name, **properties}
