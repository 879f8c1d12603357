"""What the neurons of a map detect, as a page's script shows it: functions, texts by side, tokens, vocabulary."""

import shlex
from typing import Any

import polars as pl

from ..queries.database import Database
from .picture import Subject, rows_of

_MOST_CARDS = 240  # farthest above what the map compares with: more would make the page large
_N_FUNCTIONS = 5
_N_TEXTS = 4
_N_TOKENS = 8
_WIDTH = 110
_SIDES = {True: "of", False: "not of", None: "not labelled for"}
_KEYS = ("stack", "layer", "neuron")


def neuron_cards(database: Database, subject: Subject, function_map: pl.DataFrame) -> dict[str, Any]:
    """Return what the page's script shows of a map; ``neurons`` and ``cards`` are by row and column, as in ``3,0``."""
    functions_of_map = function_map.select("family", "function").unique(maintain_order=True).rows()
    layers = function_map.select("stack", "layer").unique(maintain_order=True).rows()
    ranked = function_map.sort("difference", *_KEYS, descending=[True, False, False, False], nulls_last=True)
    cells = ranked.head(_MOST_CARDS).sort("family", "function", "stack", "layer")
    neurons = cells.select(pl.concat_str(_KEYS, separator=" ")).to_series().unique(maintain_order=True).to_list()
    place_keys = (*_KEYS, "family", "function")
    places = cells.select(place_keys).to_dicts()
    asked = {"run_id": subject.run_id, "neurons": neurons}
    _, functions = rows_of(database, "report_cards", **asked, n_functions=_N_FUNCTIONS)
    _, texts = rows_of(database, "report_card_texts", run_id=subject.run_id, places=places, n_texts=_N_TEXTS)
    _, tokens = rows_of(database, "report_card_tokens", run_id=subject.run_id, places=places, n_texts=_N_TEXTS)
    _, vocabulary = rows_of(database, "report_card_vocabulary", **asked, n_tokens=_N_TOKENS)
    detected, words = (rows.rows_by_key(_KEYS, named=True) for rows in (functions, vocabulary))
    # Where tokens are known, their texts are those of the side as such, not of the side among the top of all.
    shown = texts.rows_by_key(place_keys, named=True) | tokens.rows_by_key(place_keys, named=True)

    def place(cell: dict[str, Any]) -> str:
        row = functions_of_map.index((cell["family"], cell["function"]))
        return f"{row},{layers.index((cell['stack'], cell['layer']))}"

    cards: dict[str, Any] = {}
    for cell in cells.iter_rows(named=True):
        neuron = tuple(cell[key] for key in _KEYS)
        sides: dict[str, list[object]] = {side: [] for side in _SIDES.values()}
        for row in shown[*neuron, cell["family"], cell["function"]]:
            sides[_SIDES[row["is_positive"]]].append([row["activation"], _parts(row)])
        cards[place(cell)] = {
            "neuron": cell["neuron"],
            "held_out": [cell["held_out_lift"], cell["random_lift"], cell["control_lift"]],
            "functions": [[row["name"], row["lift"], row["direction"], row["p_value"]] for row in detected[neuron]],
            "sides": [[side, rows] for side, rows in sides.items() if rows],
            "words": [[row["direction"], row["tokens"]] for row in words[neuron]],
        }
    return {
        "command": f"neuronlake describe neuron {shlex.quote(subject.model)} --run {subject.run_id}",
        "functions": functions_of_map,
        "layers": layers,
        "first": place(ranked.row(0, named=True)),
        "neurons": {place(cell): cell["neuron"] for cell in function_map.iter_rows(named=True)},
        "cards": cards,
    }


def _parts(row: dict[str, Any]) -> str | list[tuple[str, float]]:
    """Return a text as it is, or in parts of text and share of the highest activation, cut around the highest."""
    text, tokens = row["text"], row.get("tokens")
    if not tokens:
        return str(text)
    highest = max(tokens, key=lambda token: token["activation"])
    first = max(0, min(highest["start"] - _WIDTH // 2, len(text) - _WIDTH))
    last = min(len(text), first + _WIDTH)
    parts, at, past_token = [("…", 0.0)] * (first > 0), first, 0
    for token in tokens:
        start, past_end, activation = token["start"], token["past_end"], token["activation"]
        if start < past_token:  # in a text none is marked twice
            continue
        past_token = past_end
        if first <= start and past_end <= last:
            share = round(max(0.0, activation / highest["activation"] if highest["activation"] > 0 else 0.0), 2)
            parts += [(text[at:start], 0.0), (text[start:past_end], share)]
            at = past_end
    parts += [(text[at:last], 0.0), ("…", 0.0) if last < len(text) else ("", 0.0)]
    return [(" ".join(part.split("\n")), share) for part, share in parts if part]
