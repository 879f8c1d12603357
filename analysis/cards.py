"""Readable cards: what a neuron, and what an expert, responds to."""

from collections.abc import Mapping, Sequence

from ..errors import AnalysisError, printable
from ..queries.database import Database
from .lookup import Run, find_partition, find_run

__all__ = ["describe_expert", "describe_neuron"]

_WIDTH = 110
_N_FUNCTIONS = 8
_N_TEXTS = 5
_N_NEURONS = 8

Row = Mapping[str, object]


def describe_neuron(
    database: Database,
    model: str,
    layer: int,
    neuron: int,
    *,
    stack: str | None = None,
    revision: str | None = None,
    run: str | None = None,
) -> str:
    """Return a card of a neuron: its functions, activation, texts and experts.

    Parameters
    ----------
    database
        The store's database.
    model, revision
        The model as stored; None for main, or the revision of `run`.
    layer, neuron, stack
        Which neuron; the stack is None for the encoder, or the decoder where it is the only one.
    run
        run_id of the measurement, or its first digits; None for the only one of the model and revision.

    Raises
    ------
    UnknownNameError
        If the store has no such run, or several and none is named.
    AnalysisError
        If the run is of another model or revision, or has no such neuron.
    """
    measured = find_run(database, run, model, revision=revision)
    stack = stack or _first_stack(database, measured)
    place = [measured.run_id, stack, layer, neuron]
    here = "run_id = ? and stack = ? and layer = ? and neuron = ?"
    scores = list(
        database.sql(
            f"select * from neuron_scores where {here} order by ranking desc, family, function limit {_N_FUNCTIONS}",
            place,
        )
    )
    if not scores:
        layers = database.sql("select stack, layer, n_neurons from layers where run_id = ? order by all", place[:1])
        known = ", ".join(f"{row['stack']} {row['layer']} ({row['n_neurons']:,} neurons)" for row in layers)
        raise AnalysisError(f"run {place[0]} has no neuron {neuron} in {stack} layer {layer}; it has {known}")
    lines = [f"neuron {neuron} of {stack} layer {layer}, {_run_line(measured)}"]
    for row in database.sql(f"select * from neurons where {here}", place):
        of_expert = "" if row["native_expert"] is None else f"of native expert {row['native_expert']}; "
        lines.append(
            f"  {of_expert}fires on {row['firing_rate']:.0%} of instances, mean {row['mean']:.3g}, "
            f"std {row['std']:.3g}, largest {row['max']:.3g}; input norm {row['input_norm']:.3g}, "
            f"output norm {row['output_norm']:.3g}"
        )
    lines += ["", *_aligned(["function", "ap", "prevalence", "lift", "direction", "p"], map(_score_cells, scores))]
    best = scores[0]
    texts = list(
        database.sql(
            f"""
            select
                coalesce(is_positive, case negatives when 'rest' then false end) as side,
                top_instances.value as value,
                texts.text,
                instances.start_char,
                instances.end_char,
            from top_instances
            inner join instances using (corpus, instance_id)
            inner join texts using (corpus, text_id)
            inner join functions using (corpus)
            left join labels using (corpus, instance_id, family, function)
            where family = ? and function = ? and run_id = ? and stack = ? and layer = ? and neuron = ?
            qualify row_number() over (partition by side order by rank) <= {_N_TEXTS}
            order by rank
            """,
            [best["family"], best["function"], *place],
        )
    )
    for side, of in ((True, "of"), (False, "not of"), (None, "not labelled for")):
        shown = [(f"{row['value']:.3g}", row) for row in texts if row["side"] is side]
        lines += _text_lines(f"texts that activate it most, {of} {_name(best)}", shown)
    experts = database.sql(
        """
        select
            partition_id,
            method,
            n_experts,
            expert,
        from experts
        inner join partitions using (partition_id)
        where partitions.model = ? and partitions.revision = ? and stack = ? and layer = ? and neuron = ?
            and method not in ('random', 'matched')
        order by all
        """,
        [measured.model, measured.revision, stack, layer, neuron],
    )
    if len(experts):
        lines += ["", "experts it is in (random ones left out)"]
        lines += [
            f"  expert {row['expert']} of {row['n_experts']}, partition {row['partition_id']} ({row['method']})"
            for row in experts
        ]
    return "\n".join(map(printable, lines))


def _first_stack(database: Database, run: Run) -> str:
    (stack,) = database.sql("select max(stack) from layers where run_id = ?", [run.run_id]).rows()[0]
    return str(stack)


def describe_expert(
    database: Database, partition: str, layer: int, expert: int, *, stack: str | None = None, run: str | None = None
) -> str:
    """Return a card of an expert: what it is functional for, its neurons and the texts they share.

    Parameters
    ----------
    database
        The store's database.
    partition
        partition_id, or its first digits.
    layer, expert, stack
        Which expert; the stack is None for the encoder, or the decoder where it is the only one.
    run
        run_id of a measurement of the partition's model, or its first digits; None for the only one of its revision.

    Raises
    ------
    UnknownNameError
        If the store has no such partition or run, or several runs and none is named.
    AnalysisError
        If the run is of another model, the partition has no such expert, or the run has not measured it.
    """
    found = find_partition(database, partition)
    # A run that is named may be of another checkpoint than the partition.
    revision = found.revision if run is None else None
    measured = find_run(database, run, found.model, revision=revision)
    stack = stack or _first_stack(database, measured)
    place = [measured.run_id, found.partition_id, stack, layer, expert]
    here = "run_id = ? and partition_id = ? and stack = ? and layer = ? and expert = ?"
    aligned = list(database.sql(f"select * from expert_function_alignment where {here}", place))
    if not aligned:
        query = "select stack, layer, n_experts from partition_layers where partition_id = ? order by all"
        layers = database.sql(query, [found.partition_id])
        known = ", ".join(f"{row['stack']} {row['layer']} ({row['n_experts']} experts)" for row in layers)
        raise AnalysisError(
            f"partition {found.partition_id} has no expert {expert} in {stack} layer {layer} that run "
            f"{measured.run_id} measured; it has {known}"
        )
    first = aligned[0]
    lines = [
        f"expert {expert} of {stack} layer {layer}, partition {found.partition_id}: {first['method']}, "
        f"{first['n_experts']} experts a layer",
        f"  {first['n_neurons']} neurons; {_run_line(measured)}",
    ]
    found_functional = list(
        database.sql(
            f"select * from functional_experts where {here} order by level desc, p_value, family, function", place
        )
    )
    if found_functional:
        lines += ["", "functional for (p <= .001)"]
        header = ["", "top neurons", "expected", "enrichment", "p", "q"]
        lines += _aligned(header, map(_alignment_cells, found_functional))
    else:
        best = min(aligned, key=lambda row: (_number(row, "p_value"), str(row["family"]), str(row["function"])))
        lines += ["", f"functional for nothing: its smallest p is {_number(best, 'p_value'):.2g}, for {_name(best)}"]
    neurons = database.sql(
        f"""
        select specialization.*
        from experts
        inner join specialization using (stack, layer, neuron)
        where specialization.run_id = ? and partition_id = ? and stack = ? and layer = ? and expert = ?
        order by coalesce(lift, predictivity) desc, neuron
        limit {_N_NEURONS}
        """,
        place,
    )
    lines += ["", "its most specialised neurons"]
    lines += _aligned(["neuron", "function", "predictivity", "lift", "q"], map(_neuron_cells, neurons))
    texts = database.sql(
        f"""
        select
            count(*) as n,
            any_value(texts.text) as text,
            any_value(instances.start_char) as start_char,
            any_value(instances.end_char) as end_char,
        from experts
        inner join top_instances using (stack, layer, neuron)
        inner join instances using (corpus, instance_id)
        inner join texts using (corpus, text_id)
        where top_instances.run_id = ? and partition_id = ? and stack = ? and layer = ? and expert = ?
        group by corpus, instance_id
        order by n desc, corpus, instance_id
        limit {_N_TEXTS}
        """,
        place,
    )
    lines += _text_lines(
        "texts that most of its neurons have among their top", [(f"{row['n']} neurons", row) for row in texts]
    )
    return "\n".join(map(printable, lines))


def _run_line(run: Run) -> str:
    line = f"{run.model} {run.revision}, run {run.run_id}"
    if run.measurement == "imported":
        return f"{line} (imported from {run.source})"
    return f"{line} (corpus {run.corpus}, {run.site}, {run.pooling})"


def _name(row: Row) -> str:
    return f"{row['family']}/{row['function']}"


def _number(row: Row, name: str) -> float:
    value = row[name]
    return float("nan") if value is None else float(value)  # type: ignore[arg-type]


def _shown(row: Row, name: str, form: str) -> str:
    return "" if row[name] is None else format(row[name], form)


def _score_cells(row: Row) -> list[str]:
    shown = [_shown(row, name, ".3f") for name in ("ap", "prevalence", "lift")]
    return [_name(row), *shown, _shown(row, "direction", ""), _shown(row, "p_value", ".2g")]


def _neuron_cells(row: Row) -> list[str]:
    shown = [_shown(row, name, ".3f") for name in ("predictivity", "lift")]
    return [str(row["neuron"]), _name(row), *shown, _shown(row, "q_value", ".2g")]


def _alignment_cells(row: Row) -> list[str]:
    name = f"{row['family']} (all functions)" if row["level"] == "family" else _name(row)
    numbers = [_shown(row, "n_expected", ".1f"), f"{_number(row, 'enrichment'):.1f} x"]
    return [name, str(row["n_top"]), *numbers, _shown(row, "p_value", ".2g"), _shown(row, "q_value", ".2g")]


def _aligned(header: Sequence[str], rows: "map[list[str]]") -> list[str]:
    """Return a small table: names to the left, numbers to the right."""
    cells = [list(header), *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  " + "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in cells
    ]


def _text_lines(title: str, texts: Sequence[tuple[str, Row]]) -> list[str]:
    if not texts:
        return []
    width = max(len(label) for label, _ in texts)
    return ["", title, *(f"  {label.rjust(width)}  {_excerpt(row)}" for label, row in texts)]


def _excerpt(row: Row) -> str:
    """Return the text on one line, its span in brackets, cut around the span where it is long."""
    text, start, end = str(row["text"]), row["start_char"], row["end_char"]
    if isinstance(start, int) and isinstance(end, int):
        span = _shortened(text[start:end])
        room = _WIDTH - len(span)
        # What one side does not need is the other's.
        before = min(start, max(room // 2, room - (len(text) - end)))
        after = room - before
        cut = f"{text[start - before : start]}[{span}]{text[end : end + after]}"
        return " ".join(f"{'…' if before < start else ''}{cut}{'…' if end + after < len(text) else ''}".split())
    return _shortened(" ".join(text.split()))


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
