"""Highlights: the tokens of its top texts on which a neuron fires, as plain hooks see them."""

from collections import defaultdict

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from neuronlake.errors import IngestError, UnknownNameError
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.jobs.additions import highlights
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Resources, Settings
from neuronlake.queries.database import Database
from neuronlake.schema.tables import table
from neuronlake.sharing.jobs import remove_jobs

PLACES = {
    "bert": "encoder.layer.{}.output.dense",
    "llama": "layers.{}.mlp.down_proj",
    "t5": "encoder.block.{}.layer.1.DenseReluDense.wo",
    "xlnet": "layer.{}.ff.layer_2",
}
NEURON = ("stack", "layer", "neuron")
SIDE = (*NEURON, "family", "function", "is_positive")


class Tokens:
    """Texts run one at a time: the values of all neurons at every token, and where tokens are."""

    def __init__(self, folder, kind):
        self.model, self.tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
        self.seen, self.kind = {}, kind
        for layer in range(self.model.config.num_hidden_layers):
            module = self.model.layers[layer].mlp if kind == "olmoe" else None
            module = module or self.model.get_submodule(PLACES[kind].format(layer))
            module.register_forward_pre_hook(lambda _, inputs, layer=layer: self.seen.update({layer: inputs[0]}))

    @torch.no_grad()
    def values(self, layer):
        """Return what the hook saw of the last text. [tokens, neurons]"""
        seen = self.seen[layer].transpose(0, 1)[0] if self.kind == "xlnet" else self.seen[layer][0]
        if self.kind != "olmoe":
            return seen
        block = self.model.layers[layer].mlp
        chosen = (seen @ block.gate.weight.T).topk(2, dim=-1).indices
        is_sent = torch.nn.functional.one_hot(chosen, 4).sum(1)
        gate, up = torch.einsum("th,efh->tef", seen, block.experts.gate_up_proj).chunk(2, dim=-1)
        return (torch.nn.functional.silu(gate) * up * is_sent[..., None]).flatten(1)

    def run(self, instance, *, keeps_special=False):
        """Run a text; return its tokens of the instance, and the offsets of all."""
        encoded = self.tokenizer(instance.text, return_offsets_mapping=True, return_special_tokens_mask=True)
        body = self.model.encoder if self.kind == "t5" else self.model
        with torch.no_grad():
            body(torch.tensor([encoded["input_ids"]]))
        offsets, special = encoded["offset_mapping"], encoded["special_tokens_mask"]
        start, end = (0, len(instance.text)) if instance.start is None else (instance.start, instance.end)
        places = [
            place
            for place, (first, last) in enumerate(offsets)
            if (keeps_special and instance.start is None)
            or (not special[place] and (instance.start is None or (first < end and last > start)))
        ]
        return places, offsets


def expected_listing(store, read_rows, instances):
    """Return the instances of each neuron and side of a function, by rank, in plain Python."""
    tops = [
        row for row in read_rows(store, "function_top_neurons") if (row["ranked_by"], row["half"]) == ("lift", "all")
    ]
    shares = {(row["family"], row["function"]): row["prevalence"] for row in read_rows(store, "run_functions")}
    texts = defaultdict(list)
    for row in sorted(read_rows(store, "top_instances"), key=lambda row: row["rank"]):
        texts[tuple(row[name] for name in NEURON)].append(row["instance_id"])
    listed = {}
    for function, share in shares.items():
        of = [row for row in tops if (row["family"], row["function"]) == function]
        of.sort(
            key=lambda row: (-max(row["ap"] - share, row["ap_complement"] - 1 + share), row["layer"], row["neuron"])
        )
        for row in [row for place, row in enumerate(of) if place < 10 or row["rank"] == 1]:
            neuron = tuple(row[name] for name in NEURON)
            for instance in texts[neuron]:
                label = instances[instance].labels.get("/".join(function))
                if label is not None:
                    listed.setdefault((*neuron, *function, label), []).append(instance)
    return {side: found[:5] for side, found in listed.items()}


def by_side(rows):
    """Return the rows of each side and rank, by token."""
    found = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["token"]):
        found[(*(row[name] for name in SIDE), row["rank"])].append(row)
    return found


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", Settings(n_top=20)),
        ("bert", Settings(special_tokens="keep", pooling="abs_max", n_top=20)),
        ("llama", Settings(n_top=20)),
        ("t5", Settings(n_top=20)),
        ("xlnet", Settings(n_top=20)),
        ("olmoe", Settings(n_top=20)),
    ],
)
def test_activations_are_those_of_hooks_and_their_tokens_the_highest(
    filled, ingest, tiny_model, spans, read_rows, kind, settings
):
    report = ingest(kind, settings=settings, additions=["highlights"], resources=Resources(batch_tokens=64))
    assert report.additions == ("highlights",)
    instances = [
        Instance(each.text, {**dict.fromkeys(each.labels, False), **each.labels}, each.start, each.end)
        for each in spans
    ]
    for each in instances:  # what is not labelled is negative
        for name in ("semantic/long", "semantic/drawn", "task/whole"):
            each.labels.setdefault(name, False)
    found, tokens = by_side(read_rows(filled, "top_tokens")), Tokens(tiny_model(kind), kind)
    listed = expected_listing(filled, read_rows, instances)
    assert {key[:-1] for key in found} == listed.keys()
    ranks = {(*side, rank): instance for side, of in listed.items() for rank, instance in enumerate(of, 1)}
    assert {key: rows[0]["instance_id"] for key, rows in found.items()} == ranks
    sizes, seen = set(), 0
    for key, rows in found.items():
        instance = instances[rows[0]["instance_id"]]
        places, offsets = tokens.run(instance, keeps_special=settings.special_tokens == "keep")
        values = tokens.values(key[1])[:, key[2]]
        strength = values.abs() if settings.pooling == "abs_max" else values
        for row in rows:
            assert row["activation"] == pytest.approx(float(values[row["token"]]), abs=1e-4)
            start, end = offsets[row["token"]]
            begins_with_space = end > start + 1 and instance.text[start] == " "
            assert (row["start_char"], row["end_char"]) == (start + begins_with_space, end)
        assert {row["token"] for row in rows} <= set(places)
        best = sorted((float(strength[place]) for place in places), reverse=True)
        best = [best[0], *(value for value in best[1:3] if value > 1e-5)]
        assert sorted((float(strength[row["token"]]) for row in rows), reverse=True) == pytest.approx(best, abs=1e-4)
        sizes.add(len(rows))
        seen += len(rows)
    assert len(sizes) > 1
    assert seen > 100


def test_of_explicit_labels_those_outside_are_on_no_side(store, make_corpus, whole_texts, tiny_model, read_rows):
    make_corpus(store, whole_texts, negatives="explicit")
    ask = {"model": str(tiny_model("bert")), "corpus": "test", "store": store.path}
    ingest_model(**ask, settings=Settings(n_top=30), additions=["highlights"])
    rows = read_rows(store, "top_tokens")
    found = {(row["function"], row["instance_id"], row["is_positive"]) for row in rows}
    expected = {
        (name.partition("/")[2], number, label)
        for number, instance in enumerate(whole_texts)
        for name, label in instance.labels.items()
    }
    assert found <= expected
    assert {is_positive for _, _, is_positive in found} == {True, False}
    assert expected_listing(store, read_rows, whole_texts).keys() == {key[:-1] for key in by_side(rows)}


def test_added_later_they_are_the_same_and_the_run_stays(filled, ingest, read_rows, tmp_path, tree):
    first = ingest()
    files = tree(filled)
    plan = ingest(additions=["highlights"], dry_run=True)
    assert (plan.is_new, plan.additions) == (False, ("highlights",))
    assert "highlights would be added" in plan.describe()
    assert "highlights    about" in plan.describe()
    added = ingest(additions=["highlights"])
    assert (added.run_id, added.is_new, added.additions) == (first.run_id, False, ("highlights",))
    assert "already in the store, highlights added" in added.describe()
    assert 0 < len(read_rows(filled, "top_tokens")) <= plan.n_rows["top_tokens"]
    assert {name: files[name] for name in files if name != "README.md"}.items() <= tree(filled).items()
    assert ingest(additions=["highlights"]).describe().endswith("already in the store, nothing done")
    assert not filled.check()


def test_a_pass_that_was_stopped_goes_on_where_it_was(filled, ingest, read_rows, monkeypatch):
    monkeypatch.setattr(highlights, "_PART_ROWS", 1)
    fired, parts = highlights._fired, []

    def stop_at_the_third(measurement, listed, progress):
        parts.append(listed["part"][0])
        if len(parts) == 3:
            raise KeyboardInterrupt
        return fired(measurement, listed, progress)

    monkeypatch.setattr(highlights, "_fired", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        ingest(additions=["highlights"])
    assert [commit.kind for commit in filled.commits()] == ["corpus", "run"]
    report = ingest(additions=["highlights"])
    assert (report.is_new, report.additions) == (False, ("highlights",))
    assert parts[2] == parts[3]
    assert len(parts) == len(set(parts)) + 1 > 10
    stopped = sorted(map(str, read_rows(filled, "top_tokens")))
    assert not filled.check()
    monkeypatch.undo()
    remove_jobs(filled.path, [report.run_id])
    ingest(additions=["highlights"])
    whole = sorted(map(str, read_rows(filled, "top_tokens")))
    assert [row.partition("'activation'")[0] for row in stopped] == [row.partition("'activation'")[0] for row in whole]


def test_they_name_places_and_hold_no_text():
    declared = table("top_tokens")
    texts = {column.name for column in declared.columns if column.type == "string"}
    assert texts == {"run_id", "model", "revision", "stack", "family", "function", "corpus"}


def test_a_run_without_top_instances_has_nothing_to_highlight(ingest, filled):
    with pytest.raises(IngestError, match=r"nothing to highlight: .* a larger n_top"):
        ingest(settings=Settings(n_top=0), additions=["highlights"])
    assert [commit.kind for commit in filled.commits()] == ["corpus", "run"]
    with pytest.raises(UnknownNameError, match="no addition 'highlight'; did you mean 'highlights'"):
        ingest(additions=["highlight"])


def test_of_an_encoder_decoder_the_encoders_neurons_are_highlighted(
    store, make_corpus, whole_texts, tiny_model, read_rows
):
    instances = [Instance(each.text, each.labels, target="the cat") for each in whole_texts]
    make_corpus(store, instances, negatives="explicit")
    notes = []

    class Noting:
        phase = advance = staticmethod(lambda *_, **__: None)
        note = staticmethod(notes.append)

    ask = {"model": str(tiny_model("t5")), "corpus": "test", "store": store.path, "progress": Noting}
    ingest_model(**ask, additions=["highlights"])
    assert "highlights are of the encoder's neurons alone: the decoder reads targets, not texts" in notes
    assert {row["stack"] for row in read_rows(store, "function_top_neurons")} == {"encoder", "decoder"}
    assert {row["stack"] for row in read_rows(store, "top_tokens")} == {"encoder"}


def test_sql_reads_the_token_off_the_text(filled, ingest):
    ingest(additions=["highlights"])
    query = """
        select substring(text, top_tokens.start_char + 1, top_tokens.end_char - top_tokens.start_char)
        from top_tokens inner join instances using (corpus, instance_id) inner join texts using (corpus, text_id)
    """
    with Database(filled) as database:
        found = {text for (text,) in database.sql(query).rows()}
    assert found & {"cat", "dog", "bird", "house", "river", "water"}
    assert all(text and text == text.strip() for text in found)
