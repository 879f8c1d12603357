"""Imports are relative, light and one way (`lint-imports` holds the way); names are declared once; files are short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("engines", "schema", "ingest", "queries", "analysis", "sharing", "report", "demo", "commands")


def sources() -> list[Path]:
    files = [ROOT / "errors.py", ROOT / "progress.py", ROOT / "cli.py"]
    return files + sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_within_the_package_are_relative(file: Path) -> None:
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    assert [name for name in names if name.split(".")[0] == "neuronlake"] == []


def test_no_checkpoint_is_loaded_with_code_of_its_own() -> None:
    files = (*sources(), *ROOT.glob("examples/*.py"), *ROOT.glob("benchmarks/*.py"))
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    texts = [(ast.unparse(node.func), ast.unparse(node)) for node in nodes if isinstance(node, ast.Call)]
    calls = [call for function, call in texts if function.endswith((".from_pretrained", ".from_config"))]
    assert len(calls) >= 6
    assert [each for each in calls if "trust_remote_code=False" not in each] == []


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
