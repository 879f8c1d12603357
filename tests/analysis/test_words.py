"""Cards show on which token a neuron fires, what its weights write and read, and which neurons a word has."""

import shutil

import pytest

from neuronlake.analysis.cards import describe_neuron, describe_word
from neuronlake.errors import UnknownNameError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance, Source
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Settings
from neuronlake.queries.database import Database
from neuronlake.sharing.pack import pack_store

WORDS = ("cat", "dog", "bird", "fish", "king", "queen", "song", "stone")


@pytest.fixture(scope="module")
def store(tiny_model, tmp_path_factory):
    """Return a store with a tiny model measured on whole texts, with highlights and vocabulary; not to be written."""
    folder = tmp_path_factory.mktemp("words") / "store"
    texts = [Instance(f"the {word} {verb} near a {word}s", {"task/cat": word == "cat", "task/animal": place < 4})
             for place, word in enumerate(WORDS) for verb in ("sat", "ran", "swam")]  # fmt: skip
    build_corpus(Source(texts, "a test", None, "test: literals", "rest"), "texts", store=folder)
    ask = {
        "corpus": "texts",
        "store": folder,
        "additions": ["highlights", "vocabulary"],
        "settings": Settings(n_top=23),
    }
    ingest_model(str(tiny_model("bert")), **ask)
    return folder


@pytest.fixture
def database(store):
    with Database(store) as database:
        yield database


def tables(card):
    """Return the lines of a card by the sentence above them."""
    return {block.splitlines()[0]: block.splitlines()[1:] for block in card.split("\n\n")}


def test_a_card_marks_the_token_on_which_the_neuron_fires_most(database):
    query = """
        select layer, neuron, activation, text, t.start_char, t.end_char
        from top_tokens as t inner join instances using (corpus, instance_id) inner join texts using (corpus, text_id)
        where family = 'task' and function = 'cat' and is_positive and rank = 1
        order by activation desc limit 1
    """
    ((layer, neuron, activation, text, start, end),) = database.sql(query).rows()
    marked = f"{text[:start]}«{text[start:end]}»{text[end:]}"
    lines = [line for line in describe_neuron(database, "tiny-bert", layer, neuron).splitlines() if marked in line]
    assert [line.split()[0] for line in lines] == [f"{activation:.4f}"]


def test_a_card_lists_what_the_weights_write_and_read(database):
    card = tables(describe_neuron(database, "tiny-bert", 1, 9))
    (lines,) = [lines for title, lines in card.items() if title.startswith("tokens that its weights write and read")]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["writes", "most"], ["writes", "least"], ["reads", "most"], ["reads", "least"],
    ]  # fmt: skip
    query = """
        select if(is_piece, '##', '') || token, weight from neuron_vocabulary
        where layer = 1 and neuron = 9 and direction = 'reads' and rank < 0 order by rank desc
    """
    expected = ", ".join(f"{token} {weight:.2f}" for token, weight in database.sql(query).rows())
    assert lines[4].split(maxsplit=2)[2] == expected


def test_a_word_has_the_neurons_that_write_read_fire_and_are_specialised_in_it(database):
    card = tables(describe_word(database, "CAT"))
    assert next(iter(card)) == f"word 'CAT' in all runs of {database.store}"
    for verb in ("write", "read"):
        query = """
            select layer, neuron from neuron_vocabulary
            where direction = ? and token = 'cat' and rank > 0 order by weight desc
        """
        expected = [tuple(map(str, row)) for row in database.sql(query, [f"{verb}s"]).rows()][:8]
        lines = card[f"neurons that {verb} it most, by their weights"][1:]
        assert [tuple(line.split()[3:5]) for line in lines] == expected
        assert expected
    fired = card["neurons that fire on it most, of the texts they are shown with"][1:]
    assert fired
    assert all("«cat»" in line for line in fired)
    specialised = card["neurons specialised in functions of its name"][1:]
    assert specialised
    assert all(line.split()[5] == "task/cat" for line in specialised)


def test_of_a_word_that_nothing_has_every_part_says_so(database):
    card = describe_word(database, "submarine")
    assert card.splitlines()[1:] == [
        "",
        "no neuron has it among the tokens that it writes most",
        "",
        "no neuron has it among the tokens that it reads most",
        "",
        "no neuron fires on it most in a text that it is shown with",
        "",
        "no function has it in its name",
    ]


def test_a_word_is_described_in_one_run_and_a_store_without_tokens_says_so(database, tiny_model, tmp_path):
    (run_id,) = database.sql("select run_id from runs").rows()[0]
    assert f"word 'cat' in tiny-bert main, run {run_id}" in " ".join(
        describe_word(database, "cat", run=run_id[:6]).split()
    )
    with pytest.raises(UnknownNameError, match="no run 'x'"):
        describe_word(database, "cat", run="x")
    texts = [Instance(word, {"task/animal": place < 4}) for place, word in enumerate(WORDS)]
    build_corpus(Source(texts, "a test", None, "test: literals", "rest"), "words", store=tmp_path)
    ingest_model(str(tiny_model("bert")), corpus="words", store=tmp_path)
    with Database(tmp_path) as bare:
        card = describe_word(bare, "cat")
        assert "weights write and read" not in describe_neuron(bare, "tiny-bert", 0, 0)
    assert "that it reads most; the store has no neuron_vocabulary" in card
    assert "that it is shown with; the store has no top_tokens" in card


def test_a_neuron_of_several_runs_of_the_same_weights_is_listed_once(store, tiny_model, tmp_path):
    twice = shutil.copytree(store, tmp_path / "twice")
    settings = Settings(pooling="mean")
    ingest_model(
        str(tiny_model("bert")), corpus="texts", store=twice, settings=settings, additions=["highlights", "vocabulary"]
    )
    with Database(store) as once, Database(twice) as both:
        titles = [title for title in tables(describe_word(once, "cat")) if "weights" in title]
        assert titles
        for title in titles:
            assert tables(describe_word(both, "cat"))[title] == tables(describe_word(once, "cat"))[title]


def test_a_pack_without_texts_has_the_places_of_tokens_and_no_text(store, tmp_path):
    pack_store(store, tmp_path / "pack", with_texts=False)
    with Database(tmp_path / "pack") as pack, Database(store) as whole:
        query = "from top_tokens order by all"
        assert pack.sql(query).rows() == whole.sql(query).rows()
        card = describe_neuron(pack, "tiny-bert", 0, 3)
        assert "texts that activate it most" in card
        assert "«" not in card
        assert "no neuron fires on it most" in describe_word(pack, "cat")
