"""The example that pre-trains a series: checkpoints that load, the same again, and going on after a kill."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner, Result

from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import load
from neuronlake.ingest.neurons.layers import find_layers

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "pretrain.py"
SMALL = ("--steps", "8", "--checkpoints", "4", "--width", "32", "--neurons", "16", "--layers", "2", "--experts", "2")
SHORT = ("--vocabulary", "300", "--batch", "4", "--length", "16", "--warmup", "2")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pretrain", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    file.write_text("\n".join(f"the {noun} number {n} ran over the mat" for n in range(90) for noun in ("cat", "dog")))
    return file


@pytest.fixture(scope="module")
def pretrain(script, texts) -> Callable[..., Result]:
    def run(output: Path, *options: str, texts: Path = texts) -> Result:
        arguments = [str(texts), "--output", str(output), *SMALL, *SHORT, *options]
        return CliRunner().invoke(script.pretrain, arguments)

    return run


@pytest.fixture(scope="module")
def series(pretrain, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("series") / "dense"
    assert pretrain(folder).exit_code == 0
    return folder


def test_checkpoints_are_log_spaced_from_step_0(script) -> None:
    assert script.log_spaced(4096, 21) == (
        *(0, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024, 1448, 2048, 2896, 4096),
    )


def test_each_checkpoint_is_a_model_of_its_own(series) -> None:
    assert sorted(each.name for each in series.glob("step*")) == ["step0", "step4", "step6", "step8"]
    digests = {load(Checkpoint(str(series), revision=f"step{step}")).weights_sha256 for step in (0, 4, 6, 8)}
    assert len(digests) == 4
    first, last = (float(line.split(",")[1]) for line in (series / "log.csv").read_text().splitlines()[1::3])
    assert last < first


def test_a_mixture_has_experts_in_every_second_layer(pretrain, tmp_path) -> None:
    assert pretrain(tmp_path / "moe", "--kind", "moe").exit_code == 0
    model = load(Checkpoint(str(tmp_path / "moe"), revision="step8"))
    layers = find_layers(model.module, model.config, stack="encoder", name="moe", root="")
    assert [layer.n_native_experts for layer in layers] == [0, 2]
    assert [layer.n_neurons for layer in layers] == [16, 32]


def test_a_series_cut_short_goes_on_and_ends_as_it_would_have(series, script, pretrain, tmp_path, monkeypatch) -> None:
    class KilledError(Exception):
        pass

    def rate(step: int, plan: object) -> float:
        if step >= 5:
            raise KilledError
        return learning_rate(step, plan)

    learning_rate = script.learning_rate
    with monkeypatch.context() as patch:
        patch.setattr(script, "learning_rate", rate)
        assert isinstance(pretrain(tmp_path / "cut").exception, KilledError)
    done = pretrain(tmp_path / "cut")
    assert "going on from step 4" in done.output
    assert sorted(each.name for each in (tmp_path / "cut").glob("step*")) == ["step0", "step4", "step6", "step8"]
    last = [load(Checkpoint(str(folder), revision="step8")).weights_sha256 for folder in (series, tmp_path / "cut")]
    assert last[0] == last[1]


def test_another_plan_or_other_texts_in_the_same_folder_are_refused(series, pretrain, tmp_path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("another text\n" * 500)
    for done in (pretrain(series, "--seed", "1"), pretrain(series, texts=other)):
        assert done.exit_code == 1
        assert "holds a series of another plan or of other texts" in done.output


def test_spans_and_their_sentinels_make_up_the_row(script) -> None:
    row = np.arange(100, 164)
    source, target = script.corrupt(row, np.random.default_rng(0), 3)
    parts: dict[int, list[int]] = {}
    for token in target[:-1]:
        if token < 100:
            parts[token] = []
        else:
            parts[max(parts)].append(token)
    restored = [each for token in source[:-1] for each in (parts[token] if token < 100 else [token])]
    assert restored == row.tolist()
    assert sum(map(len, parts.values())) == round(0.15 * 64)
