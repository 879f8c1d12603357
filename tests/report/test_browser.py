"""The page in a browser: headless Chromium, driven by the npm package playwright-core.

npm install -g playwright-core && export NODE_PATH=$(npm root -g)
"""

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from neuronlake.queries.database import Database
from neuronlake.report.picture import TEXTS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _lacks() -> str | None:
    if not shutil.which("node"):
        return "no node"
    found = subprocess.run(["node", "-e", "require('playwright-core')"], capture_output=True, check=False)
    return "no npm package playwright-core (NODE_PATH)" if found.returncode else None if CHROMIUM else "no chromium"


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seen(page: Path) -> dict:
    if reason := _lacks():
        pytest.skip(reason)
    command = ["node", str(Path(__file__).with_name("browser.js")), str(CHROMIUM), str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_chart_draws_without_a_request_or_a_message(seen: dict) -> None:
    assert seen["problems"] == []
    assert seen["requests"] == []
    assert set(seen["charts"]) == {f"{name}-0" for name in TEXTS}
    assert min(seen["charts"].values()) > 0, seen["charts"]
    assert seen["alternatives"] == len(TEXTS)


def test_what_a_store_holds_is_not_run(seen: dict) -> None:
    assert seen["title"] == "tiny step16000 on words"
    assert seen["images"] == 0
    hostile = [text for text in seen["texts"] if "<script>" in text]
    assert hostile
    assert all("</script>" in text for text in hostile)


def test_the_numbers_of_the_map_are_those_of_the_store(seen: dict, planted: Database) -> None:
    lifts = {
        (int(row["layer"]), row["function"]): row["held_out_lift"]
        for row in planted.sql(
            "select layer, held_out_function as function, arg_max(held_out_lift, held_out_evidence) as held_out_lift "
            "from family_best where revision = 'step16000' group by all"
        )
    }
    shown = [re.search(r"layer: (\d+); .*?neuron: \d+; held out lift: ([−\d.]+);", label) for label in seen["labels"]]
    functions = [re.search(r"function: (.*?); ", label)[1] for label in seen["labels"]]
    assert len(shown) == len(lifts) == 32
    for match, function in zip(shown, functions, strict=True):
        expected = lifts[int(match[1]), function]
        assert float(match[2].replace("−", "-")) == pytest.approx(expected, abs=6e-4), function


def test_a_click_changes_the_card_and_a_key_too(seen: dict) -> None:
    assert len({seen["first"], seen["second"], seen["third"]}) == 3
    neuron, layer = re.search(r"neuron: (\d+)", seen["clicked"])[1], re.search(r"layer: (\d+)", seen["clicked"])[1]
    assert seen["second"].startswith(f"Neuron {neuron} of encoder layer {layer}, for ")
    assert "held out lift" in seen["tooltip"]
    assert neuron in seen["tooltip"]
    assert seen["numbers"] > 1


def test_data_and_chart_are_downloaded(seen: dict) -> None:
    rows = list(csv.DictReader(io.StringIO(seen["csv"])))
    assert len(rows) == 32
    assert set(rows[0]) >= {"layer", "function", "held_out_lift", "control_lift", "difference"}
    assert seen["svg"].startswith("<svg")


def test_nothing_is_wider_than_a_phone_and_dark_is_dark(seen: dict) -> None:
    assert seen["phone"]["overflow"] <= 0
    assert seen["dark"]["overflow"] <= 0
    assert seen["phone"]["paper"] == "rgb(253, 253, 251)"
    assert seen["dark"]["paper"] == "rgb(21, 23, 26)"
    assert seen["dark"]["ink"] == "rgb(228, 229, 227)"
