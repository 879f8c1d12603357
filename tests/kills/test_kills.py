"""Every kind of job, killed at steps of what it writes and started again: whole, checked, and as if never killed."""

import pytest

QUICK = ("corpus", "ingest", "materialize")
SLOW = ("shuffle", "chance", "align", "import", "series", "partition", "perturb", "emergence")


@pytest.mark.parametrize("name", QUICK)
def test_a_killed_job_started_again_ends_as_if_it_had_never_been_killed(killed, name):
    answer = killed(QUICK, 10)[name]
    assert "error" not in answer, answer["error"]
    assert answer["problems"] == []
    assert answer["points"] == min(10, answer["n_steps"])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_killed_job_of_the_longer_kinds_does_too(killed, name):
    answer = killed(SLOW, 10)[name]
    assert "error" not in answer, answer["error"]
    assert answer["problems"] == []
    assert answer["points"] == 10
