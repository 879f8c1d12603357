"""A perturbation study, a series of checkpoints and a study of its experts, as jobs commit them."""

import numpy as np
from queries.small_tables import encoded, table

from neuronlake.schema.store import Store


def add_perturbation_study(store: Store) -> None:
    """Commit a study of one source's neurons at one dose, read out on it and on one other function."""
    studied = {
        "perturbation_id": "5555555555555555",
        "run_id": "bbbbbbbbbbbbbbbb",
        "model": "tiny",
        "revision": "step1000",
        "step": 1000,
        "selection": "functional",
        "source_family": "knowledge",
        "source_function": "capital",
        "dose": 0.1,
        "target_family": "knowledge",
        "target_function": ["capital", "currency"],
        "control": "random",
        "is_on_target": [True, False],
        "effect": [0.3, 0.1],
        "difference": [0.3, 0.1],
        "p_texts": [0.001, 0.2],
        "p_sets": [0.01, 0.3],
        "selectivity": [0.2, None],
        "selectivity_p_texts": [0.001, None],
        "selectivity_p_sets": [0.02, None],
    }
    with store.job("5555555555555555", kind="perturbation") as job:
        for name, n_rows in (("perturbation_contrasts", 2), ("perturbations", 2)):
            job.write(name, table(name, n_rows, studied))
        job.write("perturbation_studies", table("perturbation_studies", 1, studied))
        job.commit()


def add_series(store: Store) -> None:
    """Commit what was listed as the two checkpoints, and their tensors, of which none is as the other's."""
    listed = {"model": "tiny", "revision": ["step0", "step1000"], "step": [0, 1000], "source": "folder"}
    with store.job("checkpoints", kind="checkpoints") as job:
        job.write("checkpoints", table("checkpoints", 2, listed))
        job.commit()
    weights = {
        "run_id": ["aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "bbbbbbbbbbbbbbbb"],
        "model": "tiny",
        "revision": ["step0", "step0", "step1000", "step1000"],
        "step": [0, 0, 1000, 1000],
        "tensor": ["embedding", "ffn", "embedding", "ffn"],
        "sha256": ["e0", "f0", "e1", "f1"],
        "n_values": [100, 400, 100, 400],
    }
    with store.job("weight_tensors", kind="weights") as job:
        job.write("weight_tensors", table("weight_tensors", 4, weights))
        job.commit()


def add_emergence_study(store: Store) -> None:
    """Commit a study of the two checkpoints: in each 40 experts of 5 neurons, followed by index."""
    study = {
        "emergence_id": "6666666666666666",
        "model": "tiny",
        "last_run_id": "bbbbbbbbbbbbbbbb",
        "corpus": "words",
        "method": "function",
        "n_experts": 40,
        "parameters": "{}",
        "n_seeds": 1,
        "n_random": 1,
        "n_checkpoints": 2,
        "last_step": 1000,
    }
    made = {
        **study,
        "role": ["cold", "cold", "random"],
        "revision": ["step0", "step1000", "step1000"],
        "step": [0, 1000, 1000],
        "run_id": ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "bbbbbbbbbbbbbbbb"],
        "partition_id": ["3333333333333333", "1111111111111111", "2222222222222222"],
    }
    change = {
        **study,
        "role": "cold",
        "revision": "step0",
        "step": 0,
        "reference": "last",
        "reference_step": 1000,
        "stack": "encoder",
        "layer": [0, 1],
        "adjusted_rand_index": 0.1,
        "normalized_mutual_information": 0.5,
        "variation_of_information": 3.0,
    }
    index = np.arange(160)
    is_last = index >= 80
    track = {
        **study,
        "role": "cold",
        "revision": encoded(["step0", "step1000"], is_last.astype(int)),
        "step": np.where(is_last, 1000, 0),
        "run_id": encoded(["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"], is_last.astype(int)),
        "partition_id": encoded(["3333333333333333", "1111111111111111"], is_last.astype(int)),
        "stack": "encoder",
        "layer": index // 40 % 2,
        "expert": index % 40,
        "track": index % 40,
        "n_neurons": 5,
        "n_shared_next": np.where(is_last, np.nan, 1),
        "n_shared_last": np.where(is_last, 5, 1),
    }
    with store.job("6666666666666666", kind="emergence") as job:
        job.write("emergence_studies", table("emergence_studies", 1, study))
        job.write("emergence_partitions", table("emergence_partitions", 3, made))
        job.write("partition_changes", table("partition_changes", 2, change))
        job.write("expert_tracks", table("expert_tracks", 160, track))
        job.commit()
