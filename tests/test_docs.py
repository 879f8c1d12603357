"""The generated pages are what the code says; the README's commands exist."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from neuronlake.cli import main

ROOT = Path(__file__).resolve().parents[1]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page",
    [
        "tables.md",
        "views.md",
        "cli.md",
        "api.md",
        "reliable.md",
        pytest.param("architectures.md", marks=pytest.mark.slow),
    ],
)
def test_generated_pages_are_up_to_date(page: str) -> None:
    assert (ROOT / "docs" / page).read_text() == generator().PAGES[page](), "run: make docs"


def test_every_command_of_the_readme_exists() -> None:
    words = re.findall(r"^\s*(?:\$ )?neuronlake ((?:[a-z]+ ?)+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert words
    for line in words:
        command: click.Command = main
        for word in line.split():
            if not isinstance(command, click.Group):
                break
            assert word in command.commands, f"README: neuronlake {line}"
            command = command.commands[word]


def test_every_page_has_a_title() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert not [str(page) for page in pages if not page.read_text().startswith("# ")]


def test_local_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_files_that_pages_name_are_there() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("**/*.md")):
        text = page.read_text()
        for name in re.findall(r"\btests/[\w/]+(?:\.py)?", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
        for name in re.findall(r"`((?:[\w-]+/)+[\w-]+\.(?:py|sql|ipynb))\b", text):
            assert any((root / name).exists() for root in (ROOT, ROOT / "tests")), f"{page.name}: {name}"


@pytest.mark.long
def test_the_site_has_no_broken_link_and_asks_nobody_else(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        loaded = re.findall(
            r"""<(?:script|img|iframe|link)\b[^>]*(?:src|href)=["']?(https?://[^"' >]+)""", page.read_text()
        )
        assert not [address for address in loaded if "neuronlake" not in address], page.name
