"""Sentences claim what is planted, and nothing where labels mean nothing."""

import re

import pytest

from neuronlake.queries.database import Database
from neuronlake.report.page import pictures_of
from neuronlake.report.picture import TEXTS, Picture, find_subjects, sign_test

CLAIMS = {
    "specialised-neurons": r"neurons \(\d+%\) are specialised beyond what controls explain",
    "function-map": r"^Layers hold neurons specialised in functions",
    "families": r"^Functions of one family share neurons",
    "experts": r"^Experts are specialised in functions",
    "perturbed-functions": r"harms that function in 8 of 8 sources",
    "dose-curves": r"^The ablation is selective",
    "training": r"^Neurons are specialised from step 4,000 on",
    "settling": r"^Scores stay correlated with the last checkpoint at 0.7 or more for knowledge: experts from step 4",
    "dead-neurons": r"^Up to 1.8% of 800 neurons are dead",
    "routing": r"^The router is specialised",
}
ANY_CLAIM = re.compile(
    r"\b(are|is) (specialised|selective)|neurons specialised in|tell functions apart|share neurons, more"
    r"|stay correlated|harms that function in"
)


def pictures(database: Database) -> dict[str, Picture]:
    (subject,) = find_subjects(database)
    return {picture.name: picture for picture in pictures_of(database, subject)}


@pytest.fixture(scope="module")
def of_planted(planted: Database) -> dict[str, Picture]:
    return pictures(planted)


def test_every_picture_has_a_claim_to_be_held_to() -> None:
    assert list(CLAIMS) == list(TEXTS)


def test_on_a_planted_store_every_sentence_claims_what_is_there(of_planted: dict[str, Picture]) -> None:
    assert list(of_planted) == list(CLAIMS)
    for name, claim in CLAIMS.items():
        assert re.search(claim, of_planted[name].sentence), of_planted[name].sentence


def test_on_a_store_whose_labels_mean_nothing_no_sentence_claims_specialisation(null: Database) -> None:
    found = pictures(null)
    assert list(found) == list(CLAIMS)
    for picture in found.values():
        assert not ANY_CLAIM.search(picture.sentence), picture.sentence


def test_the_planted_functions_are_those_at_the_top_of_the_map(of_planted: dict[str, Picture]) -> None:
    rows = of_planted["function-map"].rows
    found = 0
    for row in rows.iter_rows(named=True):
        assert row["difference"] == pytest.approx(row["held_out_lift"] - row["control_lift"], abs=1e-5)
        number = int(row["function"][1]) if len(row["function"]) == 2 else 0
        first = number * 2 + (100 if row["family"] == "semantic" else 0)
        found += first <= row["neuron"] < first + 6
    # Neurons of several functions count for the one that half a has most evidence for.
    assert found >= 28


@pytest.mark.parametrize(
    ("values", "p"), [([1.0] * 7, 1 / 128), ([1.0, -1.0, None], 3 / 4), ([], 1.0), ([-1.0] * 3, 1.0)]
)
def test_the_sign_test_is_that_of_a_coin(values: list[float | None], p: float) -> None:
    assert sign_test(values) == pytest.approx(p)


def test_a_slice_pictures_one_family(planted: Database) -> None:
    (subject,) = find_subjects(planted, family="semantic")
    for picture in pictures_of(planted, subject):
        named = {"family", "source_family"} & set(picture.rows.columns)
        for column in named:
            assert set(picture.rows[column]) == {"semantic"}, picture.name
