"""Readable cards: what a neuron, and what an expert, responds to; which neurons a word has."""

import io
from collections.abc import Mapping, Sequence

from ..errors import AnalysisError
from ..queries.database import Database
from .lookup import Partition, Run, find_run, starting_with
from .sections import Section, write_sections

_N_FUNCTIONS = 8
_N_TEXTS = 5
_N_NEURONS = 8
# What the texts of a neuron are for its best function, by whether they are positives of it.
_SIDES = {True: "of", False: "not of", None: "not labelled for"}

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
    """Return a card of a neuron as text: its activation, functions, texts, vocabulary and experts.

    In a text, ``«`` and ``»`` stand around the token on which the neuron fires most, where the run has highlights.

    Parameters
    ----------
    database, model, revision
        The store's database, and the model as stored; the revision is None for main, or that of `run`.
    layer, neuron, stack
        Which neuron; the stack is None for the encoder, or the decoder where it is the only one.
    run
        run_id of the measurement, or its first digits; None for the only one of the model and revision.

    Raises
    ------
    UnknownNameError, AnalysisError
        If there is no such run, or several and none is named; if it is of another checkpoint, or has no such neuron.

    Examples
    --------
    >>> database = neuronlake.open("neuronlake-store")
    >>> print(neuronlake.describe_neuron(database, "tiny-bert", 0, 3))
    neuron 3 of encoder layer 0, tiny-bert main, run ...
    """
    measured = find_run(database, run, model, revision=revision)
    stack = stack or _first_stack(database, measured)
    place = {"run_id": measured.run_id, "stack": stack, "layer": layer, "neuron": neuron}
    name = f"{stack} layer {layer}"
    best = _strongest(database, "neuron_scores", "ranking desc", place)
    if best is None:
        layers = database.ask("measured_layers", run=measured.run_id)
        known = ", ".join(f"{row['stack']} {row['layer']} ({row['n_neurons']:,} neurons)" for row in layers)
        raise AnalysisError(f"run {measured.run_id} has no neuron {neuron} in {name}; it has {known}")
    asked = {**best, "n_texts": _N_TEXTS, "n_functions": _N_FUNCTIONS}
    sides = {f"texts that activate it most, {side} {_name(best)}": is_positive for is_positive, side in _SIDES.items()}
    vocabulary = "tokens that its weights write and read, without any text (## before a piece of a word)"
    sections = [
        Section(f"neuron {neuron} of {name}, {_run_line(measured)}"),
        Section("activation, and norms of its weights", "card_neuron_statistics", asked),
        Section(f"functions that it detects best, by {_ranking(measured)}", "card_neuron_functions", asked),
        Section("beside control functions, whose labels are permuted", "card_neuron_controls", asked),
        *(Section(side, "card_neuron_texts", {**asked, "is_positive": value}) for side, value in sides.items()),
        Section(vocabulary, "card_neuron_vocabulary", asked),
        Section("experts it is in (random ones excluded)", "card_neuron_experts", asked),
    ]
    return _text(database, sections)


def describe_expert(
    database: Database, partition: str, layer: int, expert: int, *, stack: str | None = None, run: str | None = None
) -> str:
    """Return a card of an expert as text: what it is functional for, its neurons and the texts they share.

    Parameters
    ----------
    database, partition
        The store's database, and a partition_id or its first digits.
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

    Examples
    --------
    >>> database = neuronlake.open("neuronlake-store")
    >>> partition_id = database.sql("from partitions where method = 'function'").rows()[0][0]
    >>> print(neuronlake.describe_expert(database, partition_id, 0, 1))
    expert 1 of encoder layer 0, partition ...: function, 4 experts a layer, 16 neurons; tiny-bert main, run ...
    """
    partitioned = starting_with(database, Partition, partition)
    partition_id = partitioned.partition_id
    # A run that is named may be of another checkpoint than the partition.
    measured = find_run(database, run, partitioned.model, revision=partitioned.revision if run is None else None)
    stack = stack or _first_stack(database, measured)
    place = {"run_id": measured.run_id, "partition_id": partition_id, "stack": stack, "layer": layer, "expert": expert}
    nearest = _strongest(database, "expert_function_alignment", "p_value", place)
    if nearest is None:
        layers = database.ask("card_partition_layers", partition=partition_id)
        known = ", ".join(f"{row['stack']} {row['layer']} ({row['n_experts']} experts)" for row in layers)
        problem = f"partition {partition_id} has no expert {expert} in {stack} layer {layer}"
        raise AnalysisError(f"{problem} that run {measured.run_id} measured; it has {known}")
    ranking = _ranking(measured)
    asked = {**place, "n_neurons": _N_NEURONS, "n_texts": _N_TEXTS}
    title = f"expert {expert} of {stack} layer {layer}, partition {partition_id}: {nearest['method']}, "
    title += f"{nearest['n_experts']} experts a layer, {nearest['n_neurons']} neurons; {_run_line(measured)}"
    functional = f"functional for (p <= .001, of top neurons by {ranking})"
    none = f"functional for nothing: its smallest p is {nearest['p_value']:.2g}, for {_name(nearest)}"
    sections = [
        Section(title),
        Section(functional, "card_expert_functions", asked, none),
        Section(f"its most specialised neurons, by {ranking}", "card_expert_neurons", asked),
        Section("texts that most of its neurons have among their top", "card_expert_texts", asked),
    ]
    return _text(database, sections)


def describe_word(database: Database, word: str, *, run: str | None = None) -> str:
    """Return a card of a word as text: the neurons that write it, read it, fire on it or are specialised in it.

    Parameters
    ----------
    database, word
        The store's database, and the word, in any case; ``##`` before a piece of a word.
    run
        run_id of the measurement, or its first digits; None for all.

    Raises
    ------
    UnknownNameError
        If the store has no such run.

    Examples
    --------
    >>> database = neuronlake.open("neuronlake-store")
    >>> print(neuronlake.describe_word(database, "cat"))
    word 'cat' in all runs of neuronlake-store
    ...
    """
    measured = None if run is None else starting_with(database, Run, run)
    asked = {"word": word, "run_id": measured and measured.run_id, "n_neurons": _N_NEURONS}
    has = {table: bool(database.committed[table]) for table in ("neuron_vocabulary", "top_tokens")}
    lacking = {name: "" if has[name] else f"; the store has no {name}" for name in has}
    where = f"all runs of {database.store}" if measured is None else _run_line(measured)
    sections = [Section(f"word {word!r} in {where}")]
    for verb in ("write", "read"):
        weights, direction = f"neurons that {verb} it most, by their weights", {"direction": f"{verb}s"}
        none = f"no neuron has it among the tokens that it {verb}s most{lacking['neuron_vocabulary']}"
        sections.append(Section(weights, "word_vocabulary", {**asked, **direction}, none))
    none = f"no neuron fires on it most in a text that it is shown with{lacking['top_tokens']}"
    named, none_named = "neurons specialised in functions of its name", "no function has it in its name"
    sections += [
        Section("neurons that fire on it most, of the texts they are shown with", "word_texts", asked, none),
        Section(named, "word_functions", asked, none_named),
    ]
    return _text(database, sections)


def _text(database: Database, sections: Sequence[Section]) -> str:
    stream = io.StringIO()
    write_sections(database, sections, stream)
    return stream.getvalue().removesuffix("\n")


def _first_stack(database: Database, run: Run) -> str:
    (stack,) = database.sql("select max(stack) from layers where run_id = ?", [run.run_id]).rows()[0]
    return str(stack)


def _strongest(database: Database, view: str, order: str, place: Row) -> Row | None:
    """Return the first row of a view about a place, in an order and then by function; None if it has none."""
    conditions = " and ".join(f"{column} = ${column}" for column in place)
    query = f"from {view} where {conditions} order by {order}, family, function limit 1"
    return next(iter(database.sql(query, place)), None)


def _ranking(run: Run) -> str:
    """Return what the views rank the neurons of a run by: without labels there is no prevalence, and so no lift."""
    return "predictivity" if run.measurement == "imported" else "lift"


def _run_line(run: Run) -> str:
    origin = f"imported from {run.source}" if run.measurement == "imported" else f"corpus {run.settings}"
    return f"{run.model} {run.revision}, run {run.run_id} ({origin})"


def _name(row: Row) -> str:
    return f"{row['family']}/{row['function']}"
