"""Imports point one way; names are declared once; files stay readable."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("schema", "ingest", "queries", "analysis", "demo", "commands")
# What each part of the package may import from the others.
ALLOWED = {
    "errors": set(),
    "schema": {"errors", "schema"},
    "ingest": {"errors", "schema", "ingest"},
    "queries": {"errors", "schema", "queries"},
    "analysis": {
        "errors",
        "schema",
        "queries",
        "analysis",
        "ingest.memory",
        "ingest.models",
        "ingest.feed_forwards",
        "ingest.layers",
        "ingest.sites",
        "ingest.intervention",
        "ingest.progress",
        "ingest.routers",
        "ingest.weights",
        # A study of checkpoints names those that a series lacks.
        "ingest.series",
        # Readouts run a model on a corpus, as ingestion does.
        "ingest.collation",
        "ingest.labels",
        "ingest.names",
        "ingest.pooling",
        "ingest.stored_corpus",
        "ingest.targets",
        "ingest.tokenizers",
        "ingest.tokens",
    },
    "demo": {"errors", "schema", "ingest", "queries", "analysis", "demo"},
    "commands": {"errors", "schema", "ingest", "queries", "analysis", "commands"},
    "cli": {"errors", "schema", "ingest", "queries", "analysis", "demo", "commands", "cli"},
}
HEAVY = {"torch", "transformers", "sklearn", "numba", "scipy"}


def sources() -> list[Path]:
    files = [ROOT / "errors.py", ROOT / "cli.py"]
    return files + sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Yield what a file imports, package modules by their path from the root, and whether it does so on import."""
    tree = ast.parse(file.read_text())
    top = {id(node) for node in tree.body}
    home = file.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield node.module or "", id(node) in top
                continue
            base = home[: len(home) - node.level + 1]
            module = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            for alias in node.names:
                yield f".{module}.{alias.name}".replace("..", "."), id(node) in top


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file: Path) -> None:
    part = file.relative_to(ROOT).parts[0].removesuffix(".py")
    for name, _ in imports(file):
        if not name.startswith("."):
            assert not name.startswith("neuronlake"), f"{file} imports {name} absolutely"
            continue
        path = name.removeprefix(".")
        assert any(path == each or path.startswith(f"{each}.") for each in ALLOWED[part]), f"{file} imports {name}"


def test_no_checkpoint_is_loaded_with_code_of_its_own() -> None:
    files = (*sources(), *ROOT.glob("examples/*.py"), *ROOT.glob("benchmarks/*.py"))
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    texts = [(ast.unparse(node.func), ast.unparse(node)) for node in nodes if isinstance(node, ast.Call)]
    calls = [call for function, call in texts if function.endswith((".from_pretrained", ".from_config"))]
    assert len(calls) >= 6
    assert [each for each in calls if "trust_remote_code=False" not in each] == []


@pytest.mark.parametrize("package", ["schema", "queries"])
def test_schema_and_queries_never_import_the_model_side(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        assert not {name.split(".")[0] for name, _ in imports(file)} & HEAVY, file


def test_the_command_line_starts_without_heavy_imports(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from neuronlake.cli import main\n"
        f"main(['--store', {str(tmp_path)!r}, 'sql', 'select 1'], standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'sklearn', 'numba', 'scipy', 'pyarrow', 'pandas'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names_are_sorted_and_exist() -> None:
    import neuronlake

    assert neuronlake.__all__ == sorted(neuronlake.__all__)
    for name in neuronlake.__all__:
        assert getattr(neuronlake, name) is not None


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_files_hold_one_noun(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 450
