"""Every kind of job, killed at steps of what it writes and started again: whole, checked, and as if never killed."""

import pytest

KINDS = (
    *("corpus", "ingest", "shuffle", "materialize", "chance", "align", "import"),
    *("series", "partition", "perturb", "emergence"),
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_job_started_again_ends_as_if_it_had_never_been_killed(killed, kind):
    answer = killed(kind, 10)
    assert "error" not in answer, answer["error"]
    assert answer["problems"] == []
    assert answer["points"] == min(10, answer["n_steps"])
