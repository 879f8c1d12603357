"""The wheel holds the whole package and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import neuronlake

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = {".json", ".py", ".pyi", ".sql", ".toml", ".tsv"}
NOT_PACKAGED = {"tests", "benchmarks", "docs", "examples", "build", "dist", "pyproject.toml"}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def tracked_files() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [Path(line) for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def test_every_file_of_the_package_is_in_the_wheel(wheel_names: set[str]) -> None:
    expected = {
        f"neuronlake/{file.as_posix()}"
        for file in tracked_files()
        if file.parts[0] not in NOT_PACKAGED
        and (file.suffix in PACKAGED or file.name == "py.typed" or file.parts[0] == "report")
        and not file.parts[0].startswith(".")
    }
    assert expected <= wheel_names, sorted(expected - wheel_names)
    assert any(name.endswith(".sql") for name in expected)


def test_nothing_lands_outside_the_package(wheel_names: set[str]) -> None:
    information = f"neuronlake-{neuronlake.__version__}.dist-info"
    assert {name.split("/")[0] for name in wheel_names} == {"neuronlake", information}
    assert not [name for name in wheel_names if "/tests/" in name]
