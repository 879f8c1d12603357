"""The demo's findings on a terminal."""

import os
import shutil
import sys
import textwrap
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from ..errors import printable
from .findings import Findings
from .run import MODEL, DemoRun

__all__ = ["print_findings"]

_WIDTH = 100


def print_findings(run: DemoRun, findings: Findings, *, store: Path) -> None:
    """Print the findings and what to try next."""
    console = Console(width=_WIDTH, highlight=False)
    n_neurons = f"{run.trained.n_neurons:,} neurons in {run.trained.n_layers} layers"
    console.print(
        f"\n[bold]{MODEL}[/bold]: {n_neurons}, {run.trained.n_functions} functions, "
        f"{run.trained.n_instances:,} instances\n"
    )
    console.print("Are neurons specialised? Trained against randomly initialised")
    console.print(_families(findings))
    console.print(
        textwrap.fill(
            "Best: predictivity of the best of a layer's neurons, mean over functions and layers; with so many neurons "
            "some look good by luck. Held out: the neuron is chosen on one half of the instances and scored on the "
            "other, so that luck is gone.",
            _WIDTH,
        ),
        style="dim",
    )
    console.print("\nThe most specialised neuron of each family, and the function's texts that activate it most")
    console.print(_neurons(findings))
    console.print("\nDo functions of one family share their top neurons? Overlap of the top 1/96 of a layer")
    console.print(_similarity(findings))
    # As the person must type it: where the environment is not active, by the path it was started with.
    program = "neuronlake" if shutil.which("neuronlake") else os.path.relpath(sys.argv[0])
    if str(store) != "neuronlake-store":
        program += f" --store {store}"
    console.print("\n[bold]Try next[/bold]")
    for command in (
        f'{program} sql "select layer, neuron, function, lift, held_out_function, held_out_lift '
        "from specialization where revision = 'main' and family = 'knowledge' order by lift desc, layer, neuron "
        'limit 5"',
        f'{program} sql "select family, layer, held_out_predictivity from best_predictivity '
        "where revision = 'main' order by all\"",
        f"{program} shell",
    ):
        console.print(f"  {command}", markup=False, soft_wrap=True)


def _families(findings: Findings) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("family")
    for name in ("functions", "chance", "best: trained", "random", "held out: trained", "random"):
        table.add_column(name, justify="right")
    for row in findings.families:
        scores = ("chance", "trained", "random", "trained_held_out", "random_held_out")
        table.add_row(str(row["family"]), str(row["functions"]), *(_number(row[name]) for name in scores))
    return table


def _neurons(findings: Findings) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("neuron", no_wrap=True)
    table.add_column("function")
    table.add_column("predictivity", justify="right")
    table.add_column("top texts")
    for row in findings.neurons:
        texts = row["top_texts"]
        assert isinstance(texts, list)
        shown = [printable(textwrap.shorten(text, 60, placeholder="…")) for text in texts]
        sign = "" if row["direction"] == "positive" else "not "
        table.add_row(
            f"layer {row['layer']}\nneuron {row['neuron']}",
            f"{sign}{row['function']}\n[dim]{row['family']}[/dim]",
            _number(row["predictivity"]),
            "\n".join(text.replace("[", r"\[") for text in shown),
            end_section=True,
        )
    return table


def _similarity(findings: Findings) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("families")
    for name in ("trained", "random", "chance", "trained / chance"):
        table.add_column(name, justify="right")
    for row in findings.similarity:
        within = row["family_a"] == row["family_b"]
        name = f"within {row['family_a']}" if within else f"{row['family_a']} – {row['family_b']}"
        trained, chance = row["trained"], row["chance"]
        assert isinstance(trained, float)
        assert isinstance(chance, float)
        table.add_row(name, f"{trained:.4f}", _number(row["random"], 4), f"{chance:.4f}", f"{trained / chance:.1f}×")
    return table


def _number(value: object, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
