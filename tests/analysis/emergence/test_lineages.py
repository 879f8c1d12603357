"""Groups matched to experts: what they keep, and that they are the matched partitions of the store."""

import json

import numpy as np

from neuronlake.analysis.partitions.chance import strata
from neuronlake.analysis.partitions.job import partition_model
from neuronlake.analysis.partitions.settings import PartitionSettings
from neuronlake.queries.database import Database


def labels_of_role(store, emergence_id, role, seed):
    """Return norm, firing rate and expert of each neuron of layer 0 at the last checkpoint. [neurons] each."""
    query = (
        "select input_norm, firing_rate, expert from emergence_partitions as made "
        "inner join experts using (partition_id) inner join neurons using (run_id, stack, layer, neuron) "
        "where emergence_id = ? and role = ? and seed = ? and made.step = 8 and layer = 0 order by neuron"
    )
    with Database(store) as database:
        rows = database.sql(query, [emergence_id, role, seed]).arrow()
    return [rows.column(name).to_numpy() for name in rows.column_names]


def test_matched_groups_have_as_many_neurons_of_each_stratum_as_the_first_cold_experts(studied):
    norm, firing_rate, experts = labels_of_role(*studied, "cold", 0)
    codes = strata(norm, firing_rate, n_bins=5)
    assert len(np.unique(codes)) > 5
    groups = [labels_of_role(*studied, "matched", seed)[2] for seed in (0, 1)]
    for each in groups:
        assert sorted(zip(codes, each, strict=True)) == sorted(zip(codes, experts, strict=True))
        assert (each != experts).any()
    assert (groups[0] != groups[1]).any()


def test_matched_groups_are_those_that_the_command_partition_makes(series_store, study):
    study(series_store)
    with Database(series_store) as database:
        query = (
            "select run_id, max(partition_id) filter (where role = 'cold' and seed = 0), "
            "max(partition_id) filter (where role = 'matched') from emergence_partitions where step = 8 group by all"
        )
        ((run, cold, matched),) = database.sql(query).rows()
    settings = PartitionSettings("random", matched=cold, run=run)
    report = partition_model("moving", store=series_store.path, settings=settings, revision="step8")
    assert (report.partition_id, report.is_new) == (matched, False)


def test_without_norms_there_are_no_matched_groups_and_that_is_said(series_store, study):
    with Database(series_store) as database:
        ((last_run,),) = database.sql("select run_id from runs where step = 8").rows()
    path = series_store.path / "commits" / f"{last_run}.json"
    record = json.loads(path.read_text())
    record["files"] = [each for each in record["files"] if each["table"] != "neurons"]
    path.write_text(json.dumps(record))
    report = study(series_store, "moving", method="function")
    (note,) = (each for each in report.notices if each.startswith("no matched groups: "))
    assert f"run {report.last_run_id} holds no input norm and firing rate" in note
    with Database(series_store) as database:
        roles = database.sql("select role, count(*) from emergence_partitions group by all order by all").rows()
    assert roles == [("cold", 10), ("random", 1), ("warm", 5)]
    assert report.n_partitions == 15
