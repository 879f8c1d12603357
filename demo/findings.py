"""What the demo found, asked of its store in SQL."""

from dataclasses import dataclass

from ..queries.database import Database
from .run import DemoRun

__all__ = ["Findings", "find"]

Row = dict[str, object]

_FAMILIES = """
select
    family,
    any_value(n_functions) as functions,
    avg(chance) as chance,
    avg(best_predictivity) filter (where run_id = $trained) as trained,
    avg(best_predictivity) filter (where run_id = $random) as random,
    avg(held_out_predictivity) filter (where run_id = $trained) as trained_held_out,
    avg(held_out_predictivity) filter (where run_id = $random) as random_held_out,
from best_predictivity
where run_id in ($trained, $random)
group by family
order by family
"""

_NEURONS = """
with shown_texts as (
    select
        top.stack,
        top.layer,
        top.neuron,
        labels.family,
        labels.function,
        top.rank,
        -- The word in brackets where the instance is a span, with some context.
        case
            when instances.start_char is null then texts.text
            else substring(texts.text, 1, instances.start_char) || '['
                || substring(texts.text, instances.start_char + 1, instances.end_char - instances.start_char) || ']'
                || substring(texts.text, instances.end_char + 1)
        end as text,
    from top_instances as top
    join labels using (corpus, instance_id)
    join instances using (corpus, instance_id)
    join texts using (corpus, text_id)
    where top.run_id = $trained
    qualify row_number() over (partition by stack, layer, neuron, family, function order by rank) <= 3
),

neurons_with_texts as (
    select stack, layer, neuron, family, function, list(text order by rank) as top_texts,
    from shown_texts
    group by all
    having count(*) = 3
)

select best.family, best.function, best.direction, best.layer, best.neuron, best.predictivity, top_texts,
from specialization as best
join neurons_with_texts using (stack, layer, neuron, family, function)
where best.run_id = $trained
qualify row_number() over (partition by family order by lift + held_out_lift desc, stack, layer, neuron) = 1
order by best.family
"""

_SIMILARITY = """
select
    family_a,
    family_b,
    avg(overlap) filter (where run_id = $trained) as trained,
    avg(overlap) filter (where run_id = $random) as random,
    avg(chance) as chance,
from family_similarity
where run_id in ($trained, $random)
group by family_a, family_b
order by family_a <> family_b, family_a, family_b
"""


@dataclass(frozen=True, slots=True)
class Findings:
    """Rows of the three findings, as mappings from column to value.

    Parameters
    ----------
    families
        How well the best neuron of a layer detects a function, trained against random, averaged over layers.
    neurons
        The most specialised neuron of each family and the texts that activate it most.
    similarity
        Overlap of the top neurons of two functions, within and between families, averaged over layers.
    """

    families: list[Row]
    neurons: list[Row]
    similarity: list[Row]


def find(database: Database, run: DemoRun) -> Findings:
    """Ask the demo's store what it found."""
    keys = {"trained": run.trained.run_id, "random": run.random.run_id}
    return Findings(
        families=list(database.sql(_FAMILIES, keys)),
        neurons=list(database.sql(_NEURONS, {"trained": keys["trained"]})),
        similarity=list(database.sql(_SIMILARITY, keys)),
    )
