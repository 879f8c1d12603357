"""When tracks become functional, of planted top neurons, and against the tests of all partitions on all runs."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from neuronlake.queries.database import Database
from neuronlake.schema.conformance import arrow_schema
from neuronlake.schema.store import Store
from neuronlake.schema.tables import table

pytestmark = pytest.mark.long

STEPS = (0, 10, 20, 40)
FUNCTIONS = (("task", "a"), ("task", "b"))
COLUMNS = (
    "track, function, first_step, last_step_before, lasting_step, n_functional, n_checkpoints, is_functional_at_last, "
    "first_expert"
)


@pytest.fixture
def follow(store: Store, run: Callable[..., None], partition: Callable[..., None]) -> Callable[..., Database]:
    """Return a function that makes a series, of each checkpoint experts of 400 neurons, and follows them.

    `tops` are the four top neurons of functions a and b at each checkpoint; `experts` is the expert of each neuron of
    each checkpoint, and `tracks` the track of each expert of each checkpoint.
    """

    def make(tops: list[tuple[range, range]], experts: list[np.ndarray], tracks: list[list[int]]) -> Database:
        rows = []
        for index, step in enumerate(STEPS):
            run_id, partition_id, revision = f"{index:016x}", f"{index + 16:016x}", f"step{step}"
            scores = np.full((400, 2), 0.5, dtype=np.float32)
            for function in (0, 1):
                scores[tops[index][function], function] = 0.9
            given = {"ap": scores.ravel(), "ap_complement": np.zeros(800, dtype=np.float32)}
            run(
                store, run_id, revision=revision, step=step, n_layers=1, n_neurons=400, functions=FUNCTIONS,
                prevalence=(0.5, 0.5), scores=given,
            )  # fmt: skip
            partition(store, partition_id, experts[index][None], revision=revision)
            sizes = np.bincount(experts[index][experts[index] >= 0])
            rows += [
                {
                    "emergence_id": "e" * 16, "model": "tiny", "revision": revision, "step": step, "role": "cold",
                    "seed": 0, "run_id": run_id, "partition_id": partition_id, "stack": "encoder", "layer": 0,
                    "expert": expert, "track": track, "n_neurons": int(sizes[expert]), "n_shared_next": None,
                    "n_shared_last": 0,
                }
                for expert, track in enumerate(tracks[index])
            ]  # fmt: skip
        with store.job("e" * 16, kind="emergence") as job:
            job.write("expert_tracks", pa.Table.from_pylist(rows, schema=arrow_schema(table("expert_tracks"))))
            job.commit()
        return Database(store)

    return make


FOURTHS = np.arange(400) // 40
# Four top neurons together in one expert of 40, or in four experts.
TOGETHER, ELSEWHERE, APART = range(40, 44), range(84, 88), range(0, 160, 40)


@pytest.mark.parametrize(
    ("tops", "births"),
    [
        ((APART, APART, APART, APART), []),
        ((TOGETHER,) * 4, [(1, "a", 0, None, 0, 4, 4, True, 1)]),
        ((APART, APART, TOGETHER, TOGETHER), [(1, "a", 20, 10, 20, 2, 4, True, 1)]),
        ((APART, APART, APART, TOGETHER), [(1, "a", 40, 20, 40, 1, 4, True, 1)]),
        # Born, gone and back: it lasts from its return on.
        ((TOGETHER, APART, TOGETHER, TOGETHER), [(1, "a", 0, None, 20, 3, 4, True, 1)]),
        ((APART, TOGETHER, TOGETHER, APART), [(1, "a", 10, 0, None, 2, 4, False, 1)]),
        (
            (TOGETHER, ELSEWHERE, ELSEWHERE, ELSEWHERE),
            [(1, "a", 0, None, None, 1, 4, False, 1), (2, "a", 10, 0, 10, 3, 4, True, 2)],
        ),
    ],
)
def test_a_track_is_born_when_it_is_functional_first_and_lasts_from_when_it_stays_so(
    follow: Callable[..., Database], tops: tuple[range, ...], births: list[tuple[object, ...]]
) -> None:
    database = follow([(each, APART) for each in tops], [FOURTHS] * 4, [list(range(10))] * 4)
    assert database.sql(f"select {COLUMNS} from expert_births order by all").rows() == births


def test_an_expert_is_followed_by_its_track_not_by_its_index(follow: Callable[..., Database]) -> None:
    turned, turn = (FOURTHS + 3) % 10, [(expert - 3) % 10 for expert in range(10)]
    database = follow(
        [(TOGETHER, APART)] * 4, [turned, turned, FOURTHS, FOURTHS], [turn, turn, [*range(10)], [*range(10)]]
    )
    found = database.sql(f"select {COLUMNS} from expert_births").rows()
    assert found == [(1, "a", 0, None, 0, 4, 4, True, 4)]
    assert database.sql("select run_id, revision, step from expert_births").rows() == [(f"{3:016x}", "step40", 40)]


def test_tests_and_controls_are_those_of_expert_function_alignment(
    follow: Callable[..., Database], store: Store, controls: Callable[..., None]
) -> None:
    generator = np.random.default_rng(0)
    # Experts of unequal sizes, and neurons of none, among which top neurons lie anew at each checkpoint.
    sizes = [20, 60, 100, 80, 120, 20]
    experts = [generator.permutation(np.repeat([0, 1, 2, 3, 4, -1], sizes)) for _ in STEPS]
    tops = [(generator.permutation(60)[:4], generator.permutation(60)[:4]) for _ in STEPS]
    follow(tops, experts, [list(range(5))] * 4)
    for index in (0, 2, 3):  # two draws of function a, one checkpoint without
        drawn = {"word": generator.permutation(120)[:8].reshape(2, 1, 1, 4), "text": np.arange(4).reshape(1, 1, 1, 4)}
        given = {"functions": FUNCTIONS[:1], "prevalence": (0.5,)}
        controls(store, f"{index:016x}", drawn, revision=f"step{STEPS[index]}", step=STEPS[index], **given)
    database = Database(store)
    columns = "run_id, partition_id, expert, function, n_neurons, n_top"
    values = "n_expected, enrichment, p_value, is_functional, control_enrichment, selectivity"
    found = database.sql(f"select {columns}, {values} from track_alignment order by all").rows()
    expected = database.sql(
        f"select {columns}, {values} from expert_function_alignment where n_top > 0 and revision = partition_revision "
        "order by all"
    ).rows()
    assert len(found) > 15
    assert [row[:6] for row in found] == [row[:6] for row in expected]
    measured, wanted = (np.array([row[6:] for row in rows], dtype=float) for rows in (found, expected))
    np.testing.assert_allclose(measured, wanted)
    assert 0 < np.isfinite(measured[:, 4]).sum() < len(found)


def test_a_birth_stands_beside_what_permuted_labels_give(
    follow: Callable[..., Database], store: Store, controls: Callable[..., None]
) -> None:
    follow([(TOGETHER, APART)] * 4, [FOURTHS] * 4, [list(range(10))] * 4)
    for index, neurons in ((1, TOGETHER), (2, APART)):  # all four in the expert, or one
        drawn = {"word": np.asarray(neurons).reshape(1, 1, 1, 4)}
        given = {"functions": FUNCTIONS[:1], "prevalence": (0.5,)}
        controls(store, f"{index:016x}", drawn, revision=f"step{STEPS[index]}", step=STEPS[index], **given)
    query = "select enrichment, control_enrichment, selectivity from expert_births"
    assert Database(store).sql(query).rows() == [(10, 6.25, 3.75)]


def test_a_filter_on_a_study_and_model_reaches_the_files(
    follow: Callable[..., Database],
    store: Store,
    run: Callable[..., None],
    filters: Callable[..., list[str]],
) -> None:
    follow([(TOGETHER, APART)] * 4, [FOURTHS] * 4, [list(range(10))] * 4)
    run(store, "f" * 16, model="other", n_neurons=20)
    other = Database(store).sql("select 'f' || emergence_id[2:] as emergence_id, 'other' as model, * exclude "
                                "(emergence_id, model) from expert_tracks where step = 0").arrow()  # fmt: skip
    with store.job("other", kind="emergence") as job:
        job.write("expert_tracks", other.cast(arrow_schema(table("expert_tracks"))))
        job.commit()
    query = f"from expert_births where emergence_id = '{'e' * 16}' and model = 'tiny'"
    database = Database(store)
    assert database.sql(f"select count(*) {query}").rows() == [(1,)]
    found = filters(database, query, "emergence_id")
    assert found
    assert all("emergence_id = " in each for each in found)
    assert filters(database, query, "ap") == ["model = 'tiny'"]
