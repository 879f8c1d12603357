"""The dataset card."""

import yaml

from neuronlake.schema import card
from neuronlake.schema.commits import Commit, CommittedFile


def commit_of(*files: tuple[str, int]) -> Commit:
    return Commit("j", "run", 1, "0.1", "2024-01-01", tuple(CommittedFile("p", name, n, 1, "") for name, n in files))


def front_matter(text: str) -> dict:
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


def test_the_yaml_lists_one_config_for_each_table_that_holds_rows():
    text = card.text([commit_of(("neurons", 2), ("top_instances", 0)), commit_of(("neuron_functions", 3))])
    assert front_matter(text)["configs"] == [
        {"config_name": "neurons", "data_files": "data/neurons/**/*.parquet"},
        {"config_name": "neuron_functions", "default": True, "data_files": "data/neuron_functions/**/*.parquet"},
    ]


def test_rows_are_summed_over_commits_and_columns_explained():
    text = card.text([commit_of(("experts", 1_500)), commit_of(("experts", 500))])
    assert "2,000 rows, one for each `partition_id`, `stack`, `layer`, `neuron`." in text
    assert "| `expert` | int32 | index of the expert within its layer |" in text


def test_every_row_of_the_dictionary_has_three_cells():
    text = card.text([commit_of(("runs", 1), ("functions", 1), ("perturbations", 1))])
    cells = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(cells) == {4}


def test_a_store_without_rows_has_a_card_that_parses():
    assert front_matter(card.text([]))["pretty_name"] == "neuronlake store"


def test_the_card_on_disk_is_the_card_of_the_commits(store, experts):
    with store.job("j", kind="partition") as job:
        job.write("experts", experts())
        job.commit()
    assert (store.path / "README.md").read_text() == card.text(store.commits())
