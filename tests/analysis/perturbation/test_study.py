"""A study on tiny models: what it stores is what a loop of one's own finds, and nothing is done twice."""

import shutil

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from sklearn.linear_model import LogisticRegression

import neuronlake
from neuronlake.analysis.partition_settings import PartitionSettings
from neuronlake.analysis.partitions import partition_model
from neuronlake.analysis.perturbation import sources, study
from neuronlake.analysis.perturbation.probe import ProbeReadout
from neuronlake.analysis.perturbation.settings import PerturbationSettings
from neuronlake.analysis.perturbation.study import plan_perturbation, study_perturbation
from neuronlake.queries.database import Database
from neuronlake.schema.conformance import arrow_schema, check
from neuronlake.schema.perturbation_tables import PERTURBATION_TABLES

QUICK = {"n_bootstrap": 50, "n_permutations": 49, "n_seeds": 2}
FUNCTIONS = [("task", "animal"), ("task", "water"), ("word", "animal")]
CLAMPED = (
    "select stack, layer, neuron, max as value, 'f' as family, (neuron % 2)::varchar as function from neurons "
    "where neuron < 20 order by layer, neuron"
)


@pytest.fixture
def model(headed, tiny_model):
    """Return a function from a model's kind to its folder, which `studied` has measured."""
    return lambda kind: tiny_model(kind) if kind in ("olmoe", "switch") else headed(kind)


@pytest.fixture
def perturbed(model):
    """Return a function that makes a study of a store, quickly."""

    def make(store, of="bert", **options):
        arguments = {name: options.pop(name) for name in ("progress", "run", "corpus") if name in options}
        settings = PerturbationSettings(**(QUICK | options))
        return study_perturbation(str(model(of)), store=store.path, settings=settings, name=f"tiny-{of}", **arguments)

    return make


@pytest.fixture
def reads(monkeypatch):
    """Return a list that grows with each pass over the texts; the pass that its attribute `fails_at` says fails."""

    class Reads(list):
        fails_at = None

    counted = Reads()
    read = ProbeReadout.read

    def counting(self, advance=None):
        if len(counted) == counted.fails_at:
            raise KeyboardInterrupt
        counted.append(self)
        return read(self, advance)

    monkeypatch.setattr(ProbeReadout, "read", counting)
    return counted


def rows(store, table, job=None):
    return pl.concat([pl.read_parquet(path) for path in store.files(table, job=job)])


def results(store, report):
    """Return what a study has found, without what says how and when."""
    found = {}
    for table in ("perturbations", "perturbed_neurons", "perturbed_instances", "perturbation_contrasts"):
        found[table] = rows(store, table, report.perturbation_id).drop("perturbation_id").rows()
    return found


class ByHand:
    """The probe's readout of a model in a loop of its own, one text at a time, from the rows of the store: bounds."""

    def __init__(self, store, folder):
        self.model = transformers.AutoModel.from_pretrained(folder).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        texts = rows(store, "texts").select("text_id", "text", "half")
        self.instances = rows(store, "instances").join(texts, on="text_id").sort("instance_id")
        self.labels = rows(store, "labels")
        features = self.features("a")
        self.mean, self.deviation = features["x"].mean(0), features["x"].std(0)
        self.deviation[self.deviation == 0] = 1
        self.probes = {}
        for name in FUNCTIONS:
            x, y = self.labelled(features, name)
            self.probes[name] = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000).fit(x, y)

    def features(self, half):
        of_half = self.instances.filter(half=half)
        x = []
        for text, start, end in of_half.select("text", "start_char", "end_char").iter_rows():
            inputs = self.tokenizer(
                text, return_tensors="pt", return_offsets_mapping=True, return_special_tokens_mask=True
            )
            spans = inputs.pop("offset_mapping")[0]
            inside = inputs.pop("special_tokens_mask")[0] == 0
            if start is not None:
                inside &= (spans[:, 0] < end) & (spans[:, 1] > start)
            with torch.no_grad():
                x.append(self.model(**inputs).last_hidden_state[0, inside].mean(0).numpy().astype(float))
        return {"x": np.stack(x), "instance_id": of_half["instance_id"]}

    def labelled(self, features, name):
        place = pl.DataFrame({"instance_id": features["instance_id"]}).with_row_index("place")
        found = self.labels.filter(family=name[0], function=name[1]).join(place, on="instance_id").sort("place")
        x = (features["x"][found["place"].to_numpy()] - self.mean) / self.deviation
        return x, found["is_positive"].to_numpy()

    def read(self):
        features = self.features("b")
        found = {}
        for name, probe in self.probes.items():
            x, y = self.labelled(features, name)
            margin = np.where(y, 1, -1) * probe.decision_function(x)
            # How near the solver came to the best weights decides what is as good as on the border.
            bounds = [[(margin[stratum] > border).mean() for stratum in (y, ~y)] for border in (0.01, -0.01)]
            found[name] = np.mean(bounds, axis=1)
        return found


@pytest.mark.parametrize("kind", ["zero", "mean", "clamp"])
def test_every_effect_is_that_of_a_loop_of_ones_own(studied, headed, perturbed, kind):
    store = studied("bert")
    chosen = {"query": CLAMPED} if kind == "clamp" else {"is_top": True, "doses": (0.1, 0.3), "n_seeds": 1}
    report = perturbed(store, kind=kind, **chosen)
    by_hand = ByHand(store, headed("bert"))
    baseline = by_hand.read()
    neurons = rows(store, "neurons").select("stack", "layer", "neuron", "mean", value="max")
    chosen = rows(store, "perturbed_neurons").join(neurons, on=["stack", "layer", "neuron"])
    keys = ["source_family", "source_function", "selection", "seed"]
    cells = rows(store, "perturbations").partition_by([*keys, "n_neurons"], as_dict=True)
    assert len(cells) == report.n_cells > 5
    if kind == "clamp":
        # Matched neurons are clamped to the levels of the query's own, place by place.
        own = chosen.filter(selection="query").select("source_function", "rank", "value")
        chosen = chosen.drop("value").join(own, on=["source_function", "rank"])
    widths, effects = [], []
    for (*source, n_neurons), cell in cells.items():
        ranked = chosen.filter(**dict(zip(keys, source, strict=True))).filter(pl.col("rank") <= n_neurons)
        assert ranked.height == n_neurons
        with neuronlake.perturb(by_hand.model, ranked, kind=kind):
            found = by_hand.read()
        for row in cell.to_dicts():
            name = row["target_family"], row["target_function"]
            for column, (low, high) in (("baseline", baseline[name]), ("perturbed", found[name])):
                assert low - 1e-9 <= row[column] <= high + 1e-9
                widths.append(high - low)
            effects.append(row["effect"])
            assert row["effect"] == row["baseline"] - row["perturbed"]
    assert np.mean(np.equal(widths, 0)) > 0.7
    assert np.max(widths) < 0.03 < np.max(effects)


def test_tables_conform_and_the_store_has_no_problem(studied, perturbed):
    store = studied("bert")
    report = perturbed(store, is_top=True, doses=(0.05, 0.1))
    for table in PERTURBATION_TABLES:
        found = [pq.read_table(path, partitioning=None) for path in store.files(table.name, job=report.perturbation_id)]
        assert found
        for each in found:
            assert each.schema.remove_metadata() == arrow_schema(table)
            check(table, each)
    assert store.check() == ()
    (row,) = rows(store, "perturbation_studies").to_dicts()
    assert row["n_sources"] == row["n_targets"] == 3
    assert row["n_layer_neurons"] == 128
    # Three sources at two doses: their own, and of two seeds each random, matched.
    assert row["n_cells"] == report.n_cells == 1 + 6 + 4 + 12
    assert (row["n_cells_reused"], row["layers"], row["selection"], row["scale"]) == (0, None, "top", 1.0)


ACCURACIES = """
    with everything as (
        select cells.cell_id, without.target_family, without.target_function, without.is_positive,
            coalesce(changed.value, without.value) as value,
        from (select distinct cell_id from perturbations) as cells
        cross join (
            select * from perturbed_instances
            where cell_id = (select any_value(cell_id) from perturbations where selection = 'none')
        ) as without
        left join perturbed_instances as changed
            on changed.cell_id = cells.cell_id and changed.instance_id = without.instance_id
            and changed.target_family = without.target_family and changed.target_function = without.target_function
    ),

    strata as (
        select cell_id, target_family, target_function, is_positive, avg(value) as accuracy, count(*) as n
        from everything
        group by all
    )

    select cell_id, target_family, target_function, avg(accuracy) as accuracy, sum(n) as n
    from strata
    group by all
"""


def test_instances_reproduce_what_was_read_in_every_cell(studied, perturbed):
    store = studied("bert")
    perturbed(store, is_top=True, doses=(0.05, 0.3))
    query = f"""
        with found as ({ACCURACIES})
        select perturbations.*, found.accuracy, found.n, without.accuracy as accuracy_without
        from perturbations
        inner join found using (cell_id, target_family, target_function)
        inner join found as without using (target_family, target_function)
        where without.cell_id = (select any_value(cell_id) from perturbations where selection = 'none')
    """
    with Database(store) as database:
        found = database.sql(query).pl()
        assert found.height == database.sql("select count(*) from perturbations").pl().item() > 30
        # Of a perturbed cell only what differs is listed, with the label as the corpus has it.
        listed = database.sql(
            "select count(*), count(*) filter (where listed.is_positive = labels.is_positive) "
            "from perturbed_instances as listed inner join labels on labels.instance_id = listed.instance_id "
            "and family = target_family and function = target_function"
        ).pl().row(0)  # fmt: skip
        assert listed[0] == listed[1] == database.sql("select count(*) from perturbed_instances").pl().item()
    for row in found.to_dicts():
        assert row["perturbed"] == pytest.approx(row["accuracy"], abs=1e-9)
        assert row["baseline"] == pytest.approx(row["accuracy_without"], abs=1e-9)
        assert row["n_instances"] == row["n"]


@pytest.mark.parametrize("options", [{"is_top": True, "doses": (0.05, 0.1)}, {"query": CLAMPED}], ids=["top", "query"])
def test_neurons_up_to_n_neurons_are_those_perturbed(studied, perturbed, monkeypatch, options):
    store, seen = studied("bert"), []
    enter = study.perturb

    def spying(model, neurons, **arguments):
        seen.append(sorted(pl.from_arrow(neurons).select("stack", "layer", "neuron").rows()))
        return enter(model, neurons, **arguments)

    monkeypatch.setattr(study, "perturb", spying)
    report = perturbed(store, **options)
    keys = ["source_family", "source_function", "selection", "seed"]
    cells = rows(store, "perturbations").filter(pl.col("selection") != "none").select(*keys, "n_neurons").unique()
    ranked = rows(store, "perturbed_neurons").join(cells, on=keys).filter(pl.col("rank") <= pl.col("n_neurons"))
    listed = [
        sorted(each.select("stack", "layer", "neuron").rows())
        for each in ranked.partition_by([*keys, "n_neurons"], maintain_order=True)
    ]
    assert sorted(listed) == sorted(seen)
    assert len(seen) == report.n_cells - 1


def test_a_killed_study_goes_on_where_it_was(studied, perturbed, reads, tmp_path):
    store = studied("bert")
    whole = type(store)(shutil.copytree(store.path, tmp_path / "whole"))
    options = {"is_top": True, "doses": (0.1,), "kind": "noise"}
    undisturbed = perturbed(whole, **options)
    n_reads = len(reads)
    assert n_reads == undisturbed.n_cells == 1 + 6 + 2 + 6
    reads.clear()
    reads.fails_at = 5
    with pytest.raises(KeyboardInterrupt):
        perturbed(store, **options)
    assert len(store.commits()) == len(whole.commits()) - 1
    assert store.files("perturbations") == ()
    reads.fails_at = None
    reads.clear()
    report = perturbed(store, **options)
    # The model as it is is read again, and each cell that was not.
    assert len(reads) == n_reads - 4
    assert (report.n_cells_reused, report.n_cells, report.is_new) == (4, n_reads, True)
    assert results(store, report) == results(whole, undisturbed)
    assert store.check() == ()


def test_a_study_of_one_more_dose_reads_that_dose_alone(studied, perturbed, reads):
    store = studied("bert")
    first = perturbed(store, is_top=True, doses=(0.05, 0.2))
    reads.clear()
    second = perturbed(store, is_top=True, doses=(0.05, 0.1, 0.2))
    assert len(reads) == 1 + 3 + 2 + 6
    assert second.n_cells_reused == first.n_cells - 1
    assert second.perturbation_id != first.perturbation_id
    for table in ("perturbations", "perturbed_instances"):
        one, other = (rows(store, table, each.perturbation_id).drop("perturbation_id") for each in (first, second))
        assert set(one.rows()) < set(other.rows())
    assert store.check() == ()


def test_the_same_study_twice_changes_nothing(studied, perturbed, reads):
    store = studied("bert")
    options = {"is_top": True, "layers": (1,)}
    first = perturbed(store, doses=(0.1, 0.2), **options)
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()}
    reads.clear()
    again = perturbed(store, doses=(0.2, 0.1, 0.1), **options)
    assert (again.perturbation_id, again.is_new, reads) == (first.perturbation_id, False, [])
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()} == before
    assert again.describe().endswith("; already in the store, nothing done")
    assert rows(store, "perturbed_neurons")["layer"].unique().to_list() == [1]


def test_a_plan_says_what_will_be_done_and_writes_nothing(studied, model, perturbed, reads):
    store = studied("bert")
    before = sorted(store.path.rglob("*"))
    settings = PerturbationSettings(is_top=True, doses=(0.1,), **QUICK)

    def planned():
        return plan_perturbation(str(model("bert")), store=store.path, settings=settings, name="tiny-bert")

    plan = planned()
    assert len(reads) == 1
    assert sorted(store.path.rglob("*")) == before
    assert plan.n_cells == {"none": 1, "random": 2, "top": 3, "matched": 6}
    assert (plan.is_new, plan.n_cells_known, plan.n_sources, plan.n_targets, plan.n_neurons) == (True, 0, 3, 3, 128)
    report = perturbed(store, is_top=True, doses=(0.1,))
    assert (report.perturbation_id, report.n_cells) == (plan.perturbation_id, 12)
    assert (report.n_texts, report.n_instances) == (plan.n_texts, plan.n_instances)
    plan = planned()
    assert (plan.is_new, plan.n_cells_known) == (False, 11)


def test_a_row_of_every_kind_is_stored(studied, perturbed):
    store = studied("bert")
    for kind, options in {
        "zero": {}, "mean": {}, "noise": {"scale": 3.0}, "shuffle": {}, "clamp": {"query": CLAMPED}
    }.items():  # fmt: skip
        chosen = {} if "query" in options else {"is_top": True, "doses": (0.2,), "functions": ("task/water",)}
        perturbed(store, kind=kind, **chosen, **options)
    found = rows(store, "perturbation_studies").select("kind", "scale", "n_sources").sort("kind").rows()
    assert found == [("clamp", 1.0, 2), ("mean", 1.0, 1), ("noise", 3.0, 1), ("shuffle", 4.0, 1), ("zero", 1.0, 1)]
    effects = rows(store, "perturbations").group_by("kind").agg(pl.col("effect").abs().max()).rows()
    assert len(effects) == 5
    assert min(effect for _, effect in effects) > 0
    # Of kinds that draw, seeds perturb the same neurons differently.
    own = rows(store, "perturbations").filter(selection="top", target_function="water")
    assert dict(own.group_by("kind").len().rows()) == {"zero": 1, "mean": 1, "noise": 2, "shuffle": 2}
    assert own.filter(pl.col("kind").is_in(["noise", "shuffle"])).n_unique(["kind", "cell_id"]) == 4
    assert store.check() == ()


@pytest.mark.parametrize(("kind", "n_layers"), [("olmoe", 2), ("switch", 1)])
def test_routing_away_takes_whole_experts_of_source_and_controls(studied, perturbed, monkeypatch, kind, n_layers):
    monkeypatch.setattr(sources, "FUNCTIONAL_P", 0.5)
    store = studied(kind)
    partition = partition_model(f"tiny-{kind}", store=store.path, settings=PartitionSettings("native")).partition_id
    report = perturbed(store, kind, kind="route-away", partition=partition, doses=(0.02, 0.3))
    assert report.n_sources > 0
    chosen = rows(store, "perturbed_neurons").with_columns(expert=pl.col("neuron") // 64)
    keys = ["source_family", "source_function", "layer", "expert"]
    assert chosen.group_by("selection", "seed", *keys).len()["len"].unique().to_list() == [64]
    assert {"functional", "matched", "random"} <= set(chosen["selection"])
    assert chosen["layer"].n_unique() <= n_layers
    sizes = rows(store, "perturbations").filter(pl.col("selection") != "none").select("dose", "n_neurons").unique()
    assert sorted(sizes.rows()) == [(0.02, 64), (0.3, 128 if kind == "olmoe" else 64)]
    own, matched = (chosen.filter(selection=each).select(keys).unique() for each in ("functional", "matched"))
    assert own.join(matched, on=keys).is_empty()
    assert store.check() == ()
