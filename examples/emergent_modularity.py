"""The paper, exhibit by exhibit: Zhang et al. 2023, Emergent Modularity in Pre-trained Transformers.

    python examples/emergent_modularity.py --stand-ins --out DIR                     # 75 s of CPU, no network
    python examples/emergent_modularity.py --semcor DIR --trex DIR --out DIR         # T5-base and Switch-base-16
    python examples/emergent_modularity.py --exhibit figure-2a …                     # one exhibit, and what it needs

Writes of each exhibit its SQL, its rows as CSV, a picture and a part of the page ``paper.md``, which has the authors'
values, ours and a control side by side. The paper's settings are here; neuronlake does the work. Run again, it goes on
where it was, as the store holds what is measured. docs/paper.md says what is the same as in the paper and what differs.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import click
import duckdb
from paper import corpora, few_shot, page, tasks
from transformers.utils import logging

import neuronlake

STAND_INS = "Stand-ins: not run on the published weights."
N_EXPERTS = 16


@dataclass(frozen=True)
class Model:
    """A model, by the name it is stored under."""

    name: str
    where: str  # hub id or folder
    revision: str | None = None
    layers: tuple[int, ...] | None = None  # measured; None for all
    series: str | None = None  # folder of checkpoints of its training
    method: str = "kmeans"  # of its experts

    @property
    def checkpoint(self) -> str:
        """The folder of the revision, or the hub id."""
        return f"{self.where}/{self.revision}" if self.revision else self.where

    @property
    def n_experts(self) -> int | None:
        """Experts that its neurons are divided into; None for its own."""
        return N_EXPERTS if self.method == "kmeans" else None


@dataclass(frozen=True)
class Plan:
    """What is run, and at what size."""

    folder: Path
    t5: Model
    switch: Model
    rows: tasks.Rows
    words: Callable[[], Iterator[neuronlake.Instance]]
    facts: Callable[[], Iterator[neuronlake.Instance]]
    perturbed: tuple[int, ...] = (8, 9, 10, 11)  # layers of T5 whose neurons are perturbed
    n_fine: int = 96  # experts a layer of those that are perturbed
    n_random: int = 20  # random partitions
    n_starts: int = 4  # of k-means over a series
    n_seeds: int = 5  # of perturbations
    n_texts: int = 20_000  # most texts of a half that Figure 2 reads
    training: few_shot.Training = field(default_factory=few_shot.Training)
    restricted_from: int = 9  # layer from which on Table 3 restricts routers
    least_p: float = 0.001  # at which Table 3 takes an expert for functional
    answer_words: Mapping[int, int] | None = None  # by class, the token that Table 3 reads; None for each task's own
    is_stand_in: bool = False

    @property
    def models(self) -> tuple[Model, Model]:
        """Both models."""
        return self.t5, self.switch

    @property
    def series(self) -> tuple[Model, ...]:
        """The models with checkpoints of their training."""
        return tuple(model for model in self.models if model.series)

    @property
    def status(self) -> str:
        """What was run, in one line."""
        if self.is_stand_in:
            return STAND_INS
        return f"Run on the published weights: {' and '.join(model.where for model in self.models)}."

    @property
    def store(self) -> Path:
        """The store of all exhibits but Figure 4."""
        return self.folder / "store"

    @property
    def series_store(self) -> Path:
        """The store of Figure 4."""
        return self.folder / "series-store"

    @cached_property
    def run_ids(self) -> dict[str, str]:
        """The runs of the models' own weights, by name."""
        query = "select model, run_id from runs where not is_random_init"
        return {str(model): str(run) for model, run in neuronlake.open(self.store).sql(query).rows()}


def published(folder: Path, semcor: Path, trex: Path, t5_series: str | None, switch_series: str | None) -> Plan:
    """Return the paper's own plan; of Switch its sparse layers are measured."""
    sparse = tuple(range(1, 12, 2))
    return Plan(
        folder,
        Model("t5-base", "google-t5/t5-base", series=t5_series),
        Model("switch-base-16", "google/switch-base-16", layers=sparse, series=switch_series, method="native"),
        rows=tasks.read_hub,
        words=lambda: corpora.word_senses(semcor),
        facts=lambda: corpora.facts(trex),
    )


def stand_ins(folder: Path) -> Plan:
    """Return the same plan for tiny models of the same classes, and made-up texts."""
    from paper import stand_ins as made

    t5, switch = (made.make(kind, folder / "models" / f"stand-in-{kind}") for kind in ("t5", "switch"))
    last = f"step{made.STEPS[-1]}"
    return Plan(
        folder,
        Model(t5.name, str(t5), last, series=str(t5)),
        Model(switch.name, str(switch), last, layers=(1, 3), series=str(switch), method="native"),
        rows=made.read_rows,
        words=made.word_senses,
        facts=made.facts,
        perturbed=(2, 3),
        n_fine=32,
        n_random=2,
        n_starts=1,
        n_seeds=2,
        n_texts=200,
        training=few_shot.Training(
            ("sst2", "mnli"), n_examples=32, n_seeds=2, n_epochs=3, rate=2e-3, first_layer=2, n_validation=60
        ),
        restricted_from=1,
        least_p=0.05,
        answer_words=made.answer_words(switch / last),
        is_stand_in=True,
    )


def measure(plan: Plan) -> None:
    """Measure both models and their random initialisations, with functions of permuted labels beside.

    Settings are the paper's: the closing token counts, and every expert is run on every token.
    """
    functions = corpora.functions_of_texts(plan.rows, plan.words(), plan.facts())
    click.echo(neuronlake.build_corpus(functions, corpora.FUNCTIONS, store=plan.store).describe())
    for model in plan.models:
        for random_init in (None, 0):
            report = neuronlake.ingest_model(
                model.where,
                revision=model.revision,
                random_init=random_init,
                corpus=corpora.FUNCTIONS,
                store=plan.store,
                name=model.name,
                settings=neuronlake.Settings(special_tokens="keep", router="blind", layers=model.layers),
                controls=neuronlake.Controls(tasks=("instance",)),
            )
            click.echo(report.describe())


def divide(plan: Plan) -> None:
    """Divide T5's neurons into experts by their weights, take Switch's own, and divide both at random."""
    measure(plan)
    for model in plan.models:
        own = neuronlake.PartitionSettings(model.method, model.n_experts, layers=model.layers)
        where = model.where if model.method == "kmeans" else model.name
        named = {"name": model.name} if model.method == "kmeans" else {}
        revision = model.revision or ("main" if model.method == "native" else None)
        report = neuronlake.partition_model(where, revision=revision, store=plan.store, settings=own, **named)
        click.echo(report.describe())
        for seed in range(plan.n_random):
            drawn = neuronlake.PartitionSettings("random", N_EXPERTS, run=plan.run_ids[model.name], seed=seed)
            revision = model.revision or "main"
            neuronlake.partition_model(model.name, revision=revision, store=plan.store, settings=drawn)


def perturb(plan: Plan) -> None:
    """Perturb T5's neurons of four tasks, of all tasks and of experts of tasks, and read nine tasks' answers."""
    measure(plan)
    answers = corpora.answers_of_tasks(plan.rows)
    click.echo(neuronlake.build_corpus(answers, corpora.ANSWERS, store=plan.store).describe())
    model, run = plan.t5, plan.run_ids[plan.t5.name]
    shared = {"revision": model.revision, "name": model.name, "store": plan.store}
    fine = neuronlake.PartitionSettings("kmeans", plan.n_fine, layers=plan.perturbed)
    partition = neuronlake.partition_model(model.where, settings=fine, **shared).partition_id
    query = (page.FOLDER / "sources.sql").read_text()
    settings = neuronlake.PerturbationSettings(
        query=query.replace("$run", f"'{run}'").replace("$partition", f"'{partition}'"),
        kind="shuffle",
        doses=tuple(percent * 32 / 3072 for percent in (2, 6, 12)),
        controls=("random", "matched"),
        n_seeds=plan.n_seeds,
        layers=plan.perturbed,
        readout="choice",
        n_texts=plan.n_texts,
    )
    report = neuronlake.study_perturbation(model.where, settings=settings, run=run, corpus=corpora.ANSWERS, **shared)
    click.echo(report.describe())


def train_few_shot(plan: Plan) -> None:
    """Train Switch on few examples, its router restricted to the experts that half a finds functional, or not."""
    divide(plan)
    run = plan.run_ids[plan.switch.name]
    query = "select partition_id from partitions where model = ? and method = 'native'"
    [(partition,)] = neuronlake.open(plan.store).sql(query, [plan.switch.name]).rows()
    neuronlake.align_partition(str(partition), store=plan.store, run=run, ranking="predictivity")
    asked = {"run": run, "partition": partition, "p": plan.least_p, "first": plan.restricted_from}
    functional: dict[str, dict[int, list[int]]] = {}
    query = (page.FOLDER / "functional.sql").read_text()
    for task, layer, experts in neuronlake.open(plan.store).sql(query, asked).rows():
        functional.setdefault(task, {})[layer] = experts
    file = plan.folder / "few-shot.csv"
    few_shot.train(
        plan.switch.checkpoint,
        plan.rows,
        functional,
        plan.training,
        file,
        name=plan.switch.name,
        words=plan.answer_words,
    )


def follow(plan: Plan) -> None:
    """Measure the checkpoints of a model's training, and follow neurons, experts and random groups over them.

    Here the closing token does not count: of their checkpoints the authors leave it out.
    """
    if not plan.series:
        raise click.ClickException("figure-4 needs checkpoints of training: --t5-series or --switch-series")
    functions = corpora.functions_of_texts(plan.rows, plan.words(), plan.facts())
    neuronlake.build_corpus(functions, corpora.FUNCTIONS, store=plan.series_store)
    for model in plan.series:
        series = neuronlake.ingest_series(
            str(model.series),
            revisions="step*",
            corpus=corpora.FUNCTIONS,
            store=plan.series_store,
            name=model.name,
            settings=neuronlake.Settings(router="blind", layers=model.layers),
        )
        click.echo(f"{model.name}: {series.describe()}")
        starts = {"n_starts": plan.n_starts} if model.method == "kmeans" else {}
        settings = neuronlake.EmergenceSettings(model.method, model.n_experts, n_random=plan.n_random, **starts)
        report = neuronlake.study_emergence(
            str(model.series), store=plan.series_store, settings=settings, name=model.name
        )
        click.echo(report.describe())


PREPARE: Mapping[str, Callable[[Plan], None]] = {
    "figure-1-left": measure,
    "figure-1-right": measure,
    "table-1": divide,
    "table-4": divide,
    "figure-2a": perturb,
    "figure-2b": perturb,
    "table-3": train_few_shot,
    "figure-4": follow,
}


def write(plan: Plan, exhibit: page.Exhibit, command: str) -> str:
    """Write an exhibit's SQL, rows and picture, and return its part of the page."""
    if exhibit.name == "table-3":
        with duckdb.connect(config={"file_search_path": str(plan.folder)}) as connection:
            rows = connection.sql(exhibit.query).pl()
    else:
        rows = neuronlake.open(plan.series_store if exhibit.name == "figure-4" else plan.store).sql(exhibit.query).pl()
    (plan.folder / f"{exhibit.name}.sql").write_text(exhibit.query + "\n")
    rows.write_csv(plan.folder / f"{exhibit.name}.csv")
    (plan.folder / f"{exhibit.name}.svg").write_text(page.picture(exhibit, rows))
    return page.section(exhibit, command, page.compared(exhibit, rows))


@click.command()
@click.option(
    "--out", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where to write."
)
@click.option("--exhibit", "names", multiple=True, type=click.Choice(list(PREPARE)), help="Exhibits; all if none.")
@click.option("--stand-ins", "is_stand_in", is_flag=True, help="Tiny models made here, no network.")
@click.option("--semcor", type=click.Path(exists=True, path_type=Path), help="Folder of SemCor 3.0.")
@click.option("--trex", type=click.Path(exists=True, path_type=Path), help="Folder of T-REx in LAMA's form.")
@click.option("--t5-series", type=click.Path(exists=True), help="Checkpoints of T5's training, a folder step… each.")
@click.option("--switch-series", type=click.Path(exists=True), help="Checkpoints of Switch's training, likewise.")
def main(
    folder: Path,
    names: tuple[str, ...],
    is_stand_in: bool,
    semcor: Path | None,
    trex: Path | None,
    t5_series: str | None,
    switch_series: str | None,
) -> None:
    """Run the paper's exhibits, and write a page that compares them."""
    folder.mkdir(parents=True, exist_ok=True)
    if is_stand_in:
        plan, options = stand_ins(folder), "--stand-ins"
    elif semcor and trex:
        plan, options = published(folder, semcor, trex, t5_series, switch_series), "--semcor SEMCOR --trex TREX"
    else:
        raise click.UsageError("the published models are measured on SemCor and T-REx: --semcor and --trex say where")
    heading = f"# Emergent modularity, exhibit by exhibit\n\n**{plan.status}**"
    if is_stand_in:
        heading += " What they score says nothing of T5-base or Switch-base-16; the authors' values are of those."
    sections = [f"{heading}\n"]
    for exhibit in page.exhibits():
        if names and exhibit.name not in names:
            continue
        click.echo(f"{exhibit.title}. {plan.status}")
        if exhibit.name == "figure-4" and not plan.series and not names:
            sections.append(f"## {exhibit.title}\n\nNot reproduced: no checkpoints were given (--t5-series).\n")
            continue
        try:
            PREPARE[exhibit.name](plan)
        except (neuronlake.NeuronlakeError, OSError) as error:
            raise click.ClickException(f"{exhibit.title}: {error}") from error
        command = f"python examples/emergent_modularity.py {options} --exhibit {exhibit.name} --out {folder.name}"
        sections.append(write(plan, exhibit, command))
    (folder / "paper.md").write_text("\n".join(sections))
    click.echo(f"{folder / 'paper.md'}. {plan.status}")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.disable_progress_bar()
    main()
