"""What a study stores is what a loop of one's own finds, and its tables say the same of each other."""

import numpy as np
import polars as pl
import pytest
import torch
import transformers
from sklearn.linear_model import LogisticRegression

from neuronlake.analysis.perturbation import passes
from neuronlake.analysis.perturbation.ablation import ablate
from neuronlake.analysis.readouts.probe import INVERSE_REGULARISATION
from neuronlake.queries.database import Database

FUNCTIONS = [("task", "animal"), ("task", "water"), ("word", "animal")]
CLAMPED = (
    "select stack, layer, neuron, max as value, 'f' as family, (neuron % 2)::varchar as function from neurons "
    "where neuron < 20 order by layer, neuron"
)


def rows(store, table, job=None):
    return pl.concat([pl.read_parquet(path) for path in store.files(table, job=job)])


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
            self.probes[name] = LogisticRegression(
                C=INVERSE_REGULARISATION, class_weight="balanced", max_iter=2000
            ).fit(x, y)

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
            # What is as good as on the border is decided by rounding, and by how near the solver came to the best.
            border = 2e-3 * np.abs(margin).max()
            bounds = [[(margin[stratum] > each).mean() for stratum in (y, ~y)] for each in (border, -border)]
            found[name] = np.mean(bounds, axis=1)
        return found


@pytest.mark.parametrize("kind", ["zero", pytest.param("mean", marks=pytest.mark.slow), "clamp"])
def test_every_effect_is_that_of_a_loop_of_ones_own(studied, headed, perturbed, kind):
    store = studied("bert")
    chosen = {"query": CLAMPED} if kind == "clamp" else {"is_top": True, "doses": (0.3,), "n_seeds": 2}
    report = perturbed(store, kind=kind, **chosen)
    by_hand = ByHand(store, headed("bert"))
    baseline = by_hand.read()
    neurons = rows(store, "neurons").select("stack", "layer", "neuron", "mean", value="max")
    chosen = rows(store, "perturbed_neurons").join(neurons, on=["stack", "layer", "neuron"])
    keys = ["source_family", "source_function", "selection", "seed"]
    cells = rows(store, "perturbations").partition_by([*keys, "n_neurons"], as_dict=True)
    assert len(cells) == sum(report.n_cells.values()) >= 5
    if kind == "clamp":
        # Matched neurons are clamped to the levels of the query's own, place by place.
        own = chosen.filter(selection="query").select("source_function", "rank", "value")
        chosen = chosen.drop("value").join(own, on=["source_function", "rank"])
    widths, effects = [], []
    for (*source, n_neurons), cell in cells.items():
        ranked = chosen.filter(**dict(zip(keys, source, strict=True))).filter(pl.col("rank") <= n_neurons)
        assert ranked.height == n_neurons
        with ablate(by_hand.model, ranked, kind=kind):
            found = by_hand.read()
        for row in cell.to_dicts():
            name = row["target_family"], row["target_function"]
            for column, (low, high) in (("baseline", baseline[name]), ("perturbed", found[name])):
                assert low - 1e-9 <= row[column] <= high + 1e-9
                widths.append(high - low)
            effects.append(row["effect"])
            assert row["effect"] == row["baseline"] - row["perturbed"]
    assert np.mean(np.equal(widths, 0)) > 0.7
    assert np.max(widths) < 0.06 < np.max(np.abs(effects))


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
        # Only values that a perturbed cell changes are listed, with the label that the corpus has.
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
    enter = passes.ablate

    def spying(model, neurons, **arguments):
        seen.append(sorted(pl.from_arrow(neurons).select("stack", "layer", "neuron").rows()))
        return enter(model, neurons, **arguments)

    monkeypatch.setattr(passes, "ablate", spying)
    report = perturbed(store, **options)
    keys = ["source_family", "source_function", "selection", "seed"]
    cells = rows(store, "perturbations").filter(pl.col("selection") != "none").select(*keys, "n_neurons").unique()
    ranked = rows(store, "perturbed_neurons").join(cells, on=keys).filter(pl.col("rank") <= pl.col("n_neurons"))
    listed = [
        sorted(each.select("stack", "layer", "neuron").rows())
        for each in ranked.partition_by([*keys, "n_neurons"], maintain_order=True)
    ]
    assert sorted(listed) == sorted(seen)
    assert len(seen) == sum(report.n_cells.values()) - 1


def test_the_share_of_energy_is_that_of_the_neurons_perturbed(studied, perturbed):
    store = studied("bert")
    perturbed(store, is_top=True, doses=(0.05, 0.3), layers=(1,))
    energy = {
        row["neuron"]: (row["mean"] ** 2 + row["std"] ** 2) * row["output_norm"] ** 2
        for row in rows(store, "neurons").filter(layer=1).to_dicts()
    }
    keys = ["source_family", "source_function", "selection", "seed"]
    ranked = rows(store, "perturbed_neurons").rows_by_key(keys, named=True)
    for row in rows(store, "perturbations").to_dicts():
        chosen = [each for each in ranked.get(tuple(row[key] for key in keys), []) if each["rank"] <= row["n_neurons"]]
        expected = sum(energy[each["neuron"]] for each in chosen) / sum(energy.values())
        assert row["energy_share"] == pytest.approx(expected, rel=1e-5)
        assert len(chosen) == row["n_neurons"] == round(row["dose"] * 64)


LOSSES = """
    with cells as (
        select distinct cell_id from perturbations
    ),

    without as (
        select instance_id, value
        from perturbed_instances
        where cell_id = (select any_value(cell_id) from perturbations where selection = 'none')
    ),

    found as (
        select cells.cell_id, family, function, avg(coalesce(changed.value, without.value)) as loss, count(*) as n
        from cells
        cross join without
        inner join labels using (instance_id)
        left join perturbed_instances as changed
            on changed.cell_id = cells.cell_id and changed.instance_id = without.instance_id
        where labels.is_positive
        group by all
    )

    select perturbations.*, found.loss, found.n
    from perturbations
    inner join found
        on found.cell_id = perturbations.cell_id and family = target_family and function = target_function
"""


@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_a_study_of_the_loss_stores_what_each_instance_lost(studied, perturbed, kind):
    store = studied(kind)
    perturbed(store, kind, readout="loss", is_top=True, doses=(0.3,), n_seeds=2)
    with Database(store) as database:
        found = database.sql(LOSSES).pl()
        assert found.height == rows(store, "perturbations").height
        listed = database.sql("select distinct target_family, target_function, is_positive from perturbed_instances")
        assert listed.rows() == [("*", "*", None)]
    for row in found.to_dicts():
        assert (row["readout"], row["metric"]) == ("loss", "nats a token")
        assert row["perturbed"] == pytest.approx(row["loss"], rel=1e-6)
        assert row["effect"] == row["perturbed"] - row["baseline"]
        assert row["n_instances"] == row["n"]
    assert found["effect"].abs().max() > 1e-3
    stacks = {"bert": {"encoder"}, "llama": {"decoder"}, "t5": {"encoder", "decoder"}}
    assert set(rows(store, "perturbed_neurons")["stack"]) <= stacks[kind]
    assert rows(store, "perturbation_studies")["n_layer_neurons"].item() == 128 * len(stacks[kind])
    assert store.check() == ()
