"""What to know of a study beside its numbers: gaps of the series, and what its tests and curves cannot tell."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from ...ingest.models.steps import missing_steps
from ...queries.database import Database
from .series import Series
from .settings import EmergenceSettings

__all__ = ["notices"]

# Of each layer the smallest p that an expert can have, and how many of a function's top neurons (1%, at least one, as
# in the view top_neurons) it takes to be functional, by the sizes of the experts of the last checkpoint.
_POWER = """
    with sizes as (
        select
            stack,
            layer,
            n_neurons,
            count(*) over (partition by stack, layer) as n_experts,
            sum(n_neurons) over (partition by stack, layer)::bigint as n_covered,
        from expert_tracks
        where emergence_id = $study and run_id = $last_run and role in ('cold', 'native') and seed = $seed
    ),

    counts as (
        select *, unnest(range(1, least(n_top, n_neurons) + 1)) as n_held
        from sizes
        inner join (
            select stack, layer, greatest(1, n_neurons // 100) as n_top from layers where run_id = $last_run
        ) using (stack, layer)
    ),

    tests as (
        select *, hypergeometric_tail(n_held, n_neurons, n_top, n_covered) as p_value
        from counts
    )

    select
        stack,
        layer,
        n_top,
        n_experts,
        min(n_neurons) as n_smallest,
        max(n_neurons) as n_largest,
        min(p_value) as least_p_value,
        min(n_held) filter (where p_value <= 0.001) as n_needed,
    from tests
    group by all
    order by all
"""


def notices(database: Database, emergence_id: str, series: Series, settings: EmergenceSettings) -> Iterator[str]:
    """Yield what to know of a study, a line each.

    Parameters
    ----------
    database
        The store's database, opened since the study was made.
    emergence_id
        The study.
    series, settings
        What it is of.
    """
    missing = missing_steps(each.step for each in series.checkpoints)
    if missing:
        steps = ", ".join(f"{step:,}" for step in missing)
        yield f"no checkpoint at step {steps}, where the others are evenly spaced"
    for twins in series.twins():
        names = ", ".join(f"{each.revision} (step {each.step:,})" for each in twins)
        yield f"{names} have one and the same weights: which is mislabelled is not known, settled steps leave all out"
    if settings.method == "coactivation":
        yield "no warm chain: METIS, which divides the graph of coactivations, starts from nothing"
    if settings.method == "native":
        yield "native experts are the same neurons throughout: they are of the last checkpoint alone"
    if settings.method == "function":
        yield (
            "circular: experts are made of the scores that births, functional experts and settled steps are told by; "
            "they select the noise of the last checkpoint's scores, of both halves"
        )
    if settings.n_random and not series.has_norms:
        yield (
            f"no matched groups: run {series.last.run_id} holds no input norm and firing rate of all neurons, so that "
            "experts of neurons of like firing rate may look stable for that alone"
        )
    yield from _power(database, emergence_id, series, settings)


def _power(database: Database, emergence_id: str, series: Series, settings: EmergenceSettings) -> Iterator[str]:
    """Yield where no expert can be functional, or hardly one: layers of which the same is true together."""
    parameters = {"study": emergence_id, "last_run": series.last.run_id, "seed": settings.seed}
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for row in database.sql(_POWER, parameters).arrow().to_pylist():
        alike[tuple(value for name, value in row.items() if name != "layer")].append(row["layer"])
    for (stack, n_top, n_experts, n_smallest, n_largest, least_p_value, n_needed), layers in alike.items():
        where = f"{stack} layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"
        if n_needed is None:
            size = f"{n_largest:,}" if n_smallest == n_largest else f"{n_smallest:,} to {n_largest:,}"
            yield (
                f"no expert of {where} can be functional: the smallest p is {least_p_value:.2g} "
                f"({n_top:,} top neuron{'s' * (n_top > 1)} a function, {n_experts:,} experts of {size} neurons)"
            )
        elif n_needed >= n_top - 1:
            held = "all" if n_needed == n_top else f"{n_needed:,}"
            yield f"an expert of {where} is functional only if it holds {held} of a function's {n_top:,} top neurons"
