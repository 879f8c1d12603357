"""The vocabulary of neurons: what plain torch computes from the weights of models with a head, and without."""

import shutil

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.jobs import sinks
from neuronlake.ingest.jobs.additions.vocabulary import TokenVectors, embeddings, unembedding
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Settings
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import load
from neuronlake.ingest.models.tokenizers import spelling
from neuronlake.ingest.neurons import weights

HEADS = {"bert": "AutoModelForMaskedLM", "t5": "AutoModelForSeq2SeqLM"}


class Noting:
    def __init__(self):
        self.notes = []
        self.note = self.notes.append
        self.phase = self.advance = lambda *_, **__: None


@pytest.fixture(scope="module")
def headed(tiny_model, tmp_path_factory):
    """Return a function from a kind to a folder of a tiny model with a head, with gains and offsets of norms drawn."""

    def make(kind):
        folder = tmp_path_factory.mktemp("headed") / f"headed-{kind}"
        config = transformers.AutoConfig.from_pretrained(tiny_model(kind))
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = getattr(transformers, HEADS.get(kind, "AutoModelForCausalLM")).from_config(config)
            for name, weight in model.named_parameters():
                if "norm" in name.lower() or "ln_" in name:
                    torch.nn.init.uniform_(weight, 0.5, 2)
            model.save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(tiny_model(kind)).save_pretrained(folder)
        return folder

    return make


def expected(folder, kind, layer):
    """Return the products of a layer's weights with tokens, by direction, from weights by their names."""
    model = getattr(transformers, HEADS.get(kind, "AutoModelForCausalLM")).from_pretrained(folder)
    weights = {name: weight.detach().double() for name, weight in model.state_dict().items()}
    match kind:
        case "llama":
            block = f"model.layers.{layer}.mlp"
            written = weights[f"{block}.down_proj.weight"].T * weights["model.norm.weight"]
            return {
                "writes": written @ weights["lm_head.weight"].T,
                "reads": weights[f"{block}.gate_proj.weight"] @ weights["model.embed_tokens.weight"].T,
            }
        case "olmoe":
            experts = f"model.layers.{layer}.mlp.experts"
            gates = weights[f"{experts}.gate_up_proj"].chunk(2, dim=1)[0].flatten(0, 1)
            written = weights[f"{experts}.down_proj"].transpose(1, 2).flatten(0, 1) * weights["model.norm.weight"]
            return {
                "writes": written @ weights["lm_head.weight"].T,
                "reads": gates @ weights["model.embed_tokens.weight"].T,
            }
        case "gpt2":
            block, tokens = f"transformer.h.{layer}.mlp", weights["transformer.wte.weight"]
            written = weights[f"{block}.c_proj.weight"]  # of Conv1D: [neurons, hidden]
            written = (written - written.mean(1, keepdim=True)) * weights["transformer.ln_f.weight"]
            return {"writes": written @ tokens.T, "reads": weights[f"{block}.c_fc.weight"].T @ tokens.T}
        case "bert":
            block, tokens = f"bert.encoder.layer.{layer}", weights["bert.embeddings.word_embeddings.weight"]
            return {
                "writes": weights[f"{block}.output.dense.weight"].T @ tokens.T,
                "reads": weights[f"{block}.intermediate.dense.weight"] @ tokens.T,
            }
    raise AssertionError(kind)


def check(rows, products, texts):
    """Hold the rows of a layer and direction against the products of its neurons with tokens. [neurons, tokens]"""
    assert len(rows) == 20 * len(products)
    for place, row in enumerate(rows):
        neuron, rank = divmod(place, 20)
        assert row["neuron"] == neuron
        assert row["rank"] == (rank + 1 if rank < 10 else 9 - rank)
    found = np.array([row["weight"] for row in rows]).reshape(-1, 20)
    ordered = np.sort(products.numpy(), axis=1)
    np.testing.assert_allclose(found, np.concatenate([ordered[:, ::-1][:, :10], ordered[:, :10]], axis=1), atol=1e-5)
    for row in rows:
        places = [place for place, text in enumerate(texts) if text == row["token"]]
        assert np.abs(products[row["neuron"], places].numpy() - row["weight"]).min() < 1e-5


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2", "olmoe"])
def test_products_are_those_of_the_weights_with_all_tokens(filled, headed, read_rows, kind, monkeypatch):
    monkeypatch.setattr(weights, "_NEURONS_TOGETHER", 50)
    monkeypatch.setattr(weights, "_TOKENS_TOGETHER", 47)
    folder, progress = headed(kind), Noting()
    ask = {"model": str(folder), "corpus": "test", "store": filled.path, "additions": ["vocabulary"]}
    plan = ingest_model(**ask, dry_run=True)
    report = ingest_model(**ask, progress=progress)
    rows = read_rows(filled, "neuron_vocabulary")
    assert plan.additions_s["vocabulary"] > 0
    assert len(rows) == plan.n_rows["neuron_vocabulary"] == report.n_neurons * 40
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts, is_piece = spelling(tokenizer, len(tokenizer))
    assert {row["is_piece"] for row in rows} == set(is_piece)
    for layer in (0, 1):
        for direction, products in expected(folder, kind, layer).items():
            of = [row for row in rows if (row["layer"], row["direction"]) == (layer, direction)]
            check(of, products, texts)
    (written,) = [note for note in progress.notes if " writes: " in note]
    through = {
        "bert": "by cls.predictions.decoder, without what cls.predictions.transform.dense computes before it",
        "gpt2": "by lm_head through ln_f (LayerNorm, its gain folded in)",
    }
    norm = f"{kind.title()}RMSNorm"
    assert written.endswith(through.get(kind, f"by lm_head through norm ({norm}, its gain folded in)"))
    assert not filled.check()


def test_without_a_head_they_are_by_the_embeddings_where_its_class_ties_them_and_else_not(ingest, filled, read_rows):
    progress = Noting()
    tied = ingest("bert", additions=["vocabulary"], progress=progress).run_id
    assert any("to which BertForMaskedLM ties its head" in note for note in progress.notes)
    untied = ingest("llama", additions=["vocabulary"], progress=progress).run_id
    why = "the checkpoint holds no head, and LlamaForCausalLM does not tie one to its embeddings"
    assert f"what a neuron of the decoder writes is not stored: {why}" in progress.notes
    random = ingest("llama", additions=["vocabulary"], random_init=1).run_id
    rows = read_rows(filled, "neuron_vocabulary")
    assert {(row["run_id"], row["direction"]) for row in rows} == {
        (tied, "reads"), (tied, "writes"), (untied, "reads"), (random, "reads"),
    }  # fmt: skip


def test_an_encoder_of_two_stacks_predicts_no_tokens_and_its_decoder_does(
    store, make_corpus, whole_texts, headed, read_rows
):
    make_corpus(
        store, [Instance(each.text, each.labels, target="the cat") for each in whole_texts], negatives="explicit"
    )
    folder, progress = headed("t5"), Noting()
    ingest_model(str(folder), corpus="test", store=store.path, additions=["vocabulary"], progress=progress)
    rows = read_rows(store, "neuron_vocabulary")
    assert {(row["stack"], row["direction"]) for row in rows} == {
        ("encoder", "reads"), ("decoder", "reads"), ("decoder", "writes"),
    }  # fmt: skip
    assert "what a neuron of the encoder writes is not stored: its encoder predicts no tokens" in progress.notes
    weights = {name: weight.double() for name, weight in load_file(folder / "model.safetensors").items()}
    written = weights["decoder.block.1.layer.2.DenseReluDense.wo.weight"].T * weights["decoder.final_layer_norm.weight"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    of = [row for row in rows if (row["stack"], row["layer"], row["direction"]) == ("decoder", 1, "writes")]
    check(of, written @ weights["shared.weight"].T, spelling(tokenizer, len(tokenizer))[0])


def test_a_job_that_was_stopped_makes_the_layers_that_are_missing(ingest, filled, read_rows, monkeypatch):
    from neuronlake.ingest.jobs.additions import vocabulary as job

    monkeypatch.setattr(sinks, "PART_ROWS", 1)
    rows_of, layers = job.VocabularyTables._rows_of, []

    def stop_at_the_second(self, layer, *rest):
        layers.append(layer.layer)
        if len(layers) == 2:
            raise KeyboardInterrupt
        return rows_of(self, layer, *rest)

    monkeypatch.setattr(job.VocabularyTables, "_rows_of", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        ingest(additions=["vocabulary"])
    assert [commit.kind for commit in filled.commits()] == ["corpus", "run"]
    report = ingest(additions=["vocabulary", "highlights"])
    assert (report.is_new, report.additions) == (False, ("highlights", "vocabulary"))
    assert layers == [0, 1, 1]
    keys = [
        (row["layer"], row["neuron"], row["direction"], row["rank"]) for row in read_rows(filled, "neuron_vocabulary")
    ]
    assert len(set(keys)) == len(keys) == 2 * 64 * 40


@pytest.mark.parametrize(
    ("kind", "beginning", "piece"), [("bert", "cat", "b"), ("gpt2", "cat", "at"), ("t5", "cat", "b")]
)
def test_tokens_are_spelt_without_marks_and_pieces_told(tiny_model, kind, beginning, piece):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model(kind))
    texts, is_piece = spelling(tokenizer, len(tokenizer) + 2)
    spelt = list(zip(texts, is_piece, strict=True))
    assert spelt[-2:] == [(None, False)] * 2
    assert (beginning, False) in spelt
    assert (piece, True) in spelt
    assert (",", True) not in spelt
    assert (",", False) in spelt
    assert not any(text and (text.startswith(("Ġ", "▁c", "##")) and len(text) > 3) for text in texts)
    if kind == "gpt2":
        assert ("\\x99", True) in spelt, "a byte that is no text is spelt as one"
        assert not {"Ļ", "ë"} & set(texts)


def saved(folder, model, tokens):
    """Save a model, its norms drawn, with a tokenizer; load it with its head."""
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "norm" in name.lower():
            torch.nn.init.uniform_(weight, 0.5, 2)
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return load(Checkpoint(str(folder)), with_head=True, with_decoder=model.config.is_encoder_decoder)


def test_the_final_norm_is_the_one_that_the_last_block_runs_into(tiny_model, tmp_path):
    tokens = transformers.AutoTokenizer.from_pretrained(tiny_model("bert"))
    sizes = {"vocab_size": len(tokens), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "max_position_embeddings": 66, "pad_token_id": 0}
    relative = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}
    config = transformers.DebertaV2Config(**sizes, **relative, norm_rel_ebd="layer_norm")
    model = saved(tmp_path / "deberta", transformers.AutoModelForMaskedLM.from_config(config), tokens)
    assert model.module.encoder.LayerNorm is not None
    assert unembedding(model, model.layers()).norm is None
    config = transformers.EsmConfig(**sizes, mask_token_id=1, position_embedding_type="rotary", token_dropout=False)
    model = saved(tmp_path / "esm", transformers.AutoModelForMaskedLM.from_config(config), tokens)
    assert unembedding(model, model.layers()).norm is model.module.encoder.emb_layer_norm_after


def test_what_a_decoder_reads_is_by_its_own_embeddings(tiny_model, tmp_path):
    tokens = transformers.AutoTokenizer.from_pretrained(tiny_model("t5"))
    config = transformers.MarianConfig(
        vocab_size=len(tokens), decoder_vocab_size=len(tokens), share_encoder_decoder_embeddings=False, d_model=32,
        encoder_layers=2, decoder_layers=2, encoder_ffn_dim=64, decoder_ffn_dim=64, encoder_attention_heads=4,
        decoder_attention_heads=4, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    model = saved(tmp_path / "marian", transformers.MarianMTModel(config), tokens)
    for stack in ("encoder", "decoder"):
        own = model.module.get_submodule(stack).embed_tokens.weight
        assert torch.equal(embeddings(model, stack).weight, own)
    assert not torch.equal(embeddings(model, "encoder").weight, own)


@pytest.mark.parametrize(("norm", "is_centring"), [(torch.nn.LayerNorm, True), (torch.nn.RMSNorm, False)])
def test_a_norm_of_small_gains_is_folded_in_as_it_is(norm, is_centring):
    part, vectors = norm(8), torch.randn(3, 8)
    torch.nn.init.constant_(part.weight, 0.003)
    passed = TokenVectors("head", torch.empty(5, 8), part).through_norm(vectors)
    whole = vectors - vectors.mean(1, keepdim=True) if is_centring else vectors
    torch.testing.assert_close(passed, 0.003 * whole, rtol=1e-3, atol=1e-6)


def test_highlights_that_cannot_be_made_do_not_keep_a_vocabulary_from_being_made(ingest, filled):
    with pytest.raises(IngestError, match="nothing to highlight"):
        ingest(additions=["highlights", "vocabulary"], settings=Settings(n_top=0))
    assert [commit.kind for commit in filled.commits()] == ["corpus", "run", "vocabulary"]


def test_weights_that_cannot_be_read_are_named(tiny_model):
    model = load(Checkpoint(str(tiny_model("llama"))))
    embedding = model.module.embed_tokens
    whole = embedding.weight
    embedding.weight = torch.nn.Parameter(whole.detach().to(torch.int8), requires_grad=False)
    with pytest.raises(IngestError, match=r"model tiny-llama: its Embedding is quantised \(torch.int8\)"):
        embeddings(model, "decoder")
    embedding.weight = torch.nn.Parameter(whole.to("meta"))
    with pytest.raises(IngestError, match="the weights of its Embedding are not in memory"):
        embeddings(model, "decoder")


def test_a_tokenizer_with_fewer_tokens_than_embeddings_names_none_it_does_not_know(filled, headed, read_rows, tmp_path):
    folder = shutil.copytree(headed("llama"), tmp_path / "longer")
    weights = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = torch.cat([weights[name], torch.full((9, 32), 50.0)])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = transformers.AutoConfig.from_pretrained(folder)
    config.vocab_size += 9
    config.save_pretrained(folder)
    ingest_model(str(folder), corpus="test", store=filled.path, additions=["vocabulary"])
    assert max(abs(row["weight"]) for row in read_rows(filled, "neuron_vocabulary")) < 40
