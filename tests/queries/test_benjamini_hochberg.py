"""The macro for views and for queries of one's own adjusts p values as scipy does."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from neuronlake.queries.database import Database


def adjusted(database: Database, p_values: list[float | None]) -> list[object]:
    query = (
        "with tests as (select unnest(range(len($p))) as place, unnest($p::double[]) as p_value, 1 as run) "
        "select q_value from benjamini_hochberg('tests', p_value, run) order by place"
    )
    return [row[0] for row in database.sql(query, {"p": p_values}).rows()]


def test_p_values_are_adjusted_as_by_scipy(empty: Database) -> None:
    p_values = np.round(np.random.default_rng(0).uniform(size=500) ** 3, 2) + 0.001  # with ties
    expected = stats.false_discovery_control(p_values.clip(max=1))
    assert adjusted(empty, p_values.clip(max=1).tolist()) == pytest.approx(expected.tolist(), abs=1e-12)


def test_equal_p_values_share_the_last_rank_and_a_missing_one_is_no_test(empty: Database) -> None:
    assert adjusted(empty, [0.01, None, 0.02, 0.02, 0.5]) == pytest.approx(
        [0.02666666, None, 0.02666666, 0.02666666, 0.5]
    )


def test_tests_count_together_where_all_keys_are_equal(empty: Database) -> None:
    query = (
        "with tests as (from (values (1, 'a', .01), (1, 'a', .04), (1, 'b', .04), (2, 'a', .04)) as t(k, l, p)) "
        "select q_value from benjamini_hochberg('tests', p, k, l) order by k, l, p"
    )
    assert [row[0] for row in empty.sql(query).rows()] == pytest.approx([0.02, 0.04, 0.04, 0.04])


def test_a_table_or_view_is_given_by_name(database: Database) -> None:
    query = "select count(q_value) from benjamini_hochberg('alignments', p_value, run_id, half)"
    assert database.sql(query).rows() == [(3,)]


def test_a_filter_on_a_key_reaches_the_files(database: Database, filters: Callable[..., list[str]]) -> None:
    query = "from benjamini_hochberg('neuron_functions', ap, run_id, model) where run_id = 'aaaaaaaaaaaaaaaa'"
    assert filters(database, query, "ap") == ["run_id = 'aaaaaaaaaaaaaaaa'"]
