"""False positives of experts where labels mean nothing but go by text or word, and what control functions find.

    python clustered_experts.py [--corpus semcor3.0] [--seeds 5]

Activations and labels as in clustered_labels.py: 2 layers, 60 functions, one family. Experts are 16 balanced k-means
clusters a layer of the neurons' activations, so that neurons of an expert act alike: 1,920 pairs of expert and
function, 32 of expert and family. `free`: hypergeometric of a function, permutation of a family. `control`: the higher
p of two controls, labels permuted by text and by word, of so many draws each. Planted: ten functions of prevalence .02
to .5 raise the activations of 12 neurons of an expert by 1.5 standard deviations; five share 6 of these with another.
"""

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from clustered_labels import draw_labels, label_index, measure
from scipy import stats
from table import command_line, print_table

from neuronlake import BalancedKMeans
from neuronlake.analysis.alignment.layer_tests import control_tests, layer_test
from neuronlake.ingest.corpora.control_tasks import Permutations
from neuronlake.ingest.scores.best import Chance, Ranked
from neuronlake.ingest.scores.scoring import score

N_LAYERS, N_EXPERTS, N_PLANTED = 2, 16, 10


def experts_of(activations):
    """Return the expert of each neuron: k-means of the 30 first principal components of standardised activations."""
    centred = activations - activations.mean(axis=1, keepdims=True)
    vectors, values, _ = np.linalg.svd((centred / centred.std(axis=1, keepdims=True))[:, ::5], full_matrices=False)
    rows = (vectors * values)[:, :30].astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return BalancedKMeans(N_EXPERTS).fit(rows).labels_.astype(np.int32)


def top_lists(activations, table):
    """Return the top lists of each layer on all instances, as rows of function and neuron."""
    labels = label_index(table)
    scores, counts = score(activations, labels, n_top=0), labels.counts()
    chance = Chance.of(counts[:, :, 0].T, counts[:, :, 1].T)
    frames = []
    for layer in np.split(np.arange(len(activations)), N_LAYERS):
        p_value = scores.p_value[layer].astype(np.float32)
        top = pl.DataFrame(Ranked(labels.functions, scores.scores[layer], p_value, chance).top())
        frames.append(top.filter(ranked_by="lift", half="all").select("half", "family", "function", "neuron"))
    return frames


def control_lists(activations, table, units, n_draws):
    """Return the top lists of each layer for controls."""
    layers = [[] for _ in range(N_LAYERS)]
    rarer = pl.DataFrame({"n_rarer": np.minimum(table.sum(axis=1), (~table).sum(axis=1))})
    rarer = rarer.with_columns(function=pl.Series([str(number) for number in range(len(table))]))
    for name, unit in units.items():
        for draw in range(n_draws):
            permutations = Permutations(np.random.PCG64(draw), unit, np.zeros_like(unit), is_ordered=name != "word")
            permuted = np.empty_like(table)
            permuted[:, permutations.draw(np.arange(len(unit)))] = table
            for frames, rows in zip(layers, top_lists(activations, permuted), strict=True):
                frames.append(rows.join(rarer, on="function").with_columns(control=pl.lit(name), draw=pl.lit(draw)))
    return [pl.concat(frames) for frames in layers]


def tests(activations, table, units, experts, n_draws, n_permutations):
    """Return p values, free and control, of functions [layers, experts, functions] and families [layers, experts]."""
    found = [[], [], [], []]
    controls = control_lists(activations, table, units, n_draws)
    for layer, lists in enumerate(top_lists(activations, table)):
        neurons = pl.DataFrame({"neuron": np.arange(len(experts[layer])), "expert": experts[layer]})
        membership = np.zeros((neurons.height, len(table)), np.int32)
        membership[lists["neuron"].to_numpy(), lists["function"].cast(int).to_numpy()] = 1
        functions = [*(str(number) for number in range(len(table))), "*"]
        names = pl.DataFrame({"half": "all", "family": lists["family"][0], "function": functions})
        membership = np.concatenate([membership, membership.sum(axis=1, keepdims=True)], axis=1)
        is_pooled = np.arange(len(table) + 1) == len(table)
        test = layer_test(experts[layer], membership, is_pooled=is_pooled, n_permutations=n_permutations, seed=layer)
        n_top, p_value = test.n_top, test.p_value
        of_controls = control_tests(neurons, names, controls[layer], n_top.astype(float), n_top)
        highest = np.max([rows["p_value"].to_numpy().reshape(n_top.shape) for rows in of_controls.values()], axis=0)
        for into, p in zip(found, (p_value[:, :-1], highest[:, :-1], p_value[:, -1], highest[:, -1]), strict=True):
            into.append(p)
    return [np.stack(p) for p in found]


def n_significant(p):
    """Return how many of the p values have a q value of at most .05."""
    return int((stats.false_discovery_control(p.ravel()) <= 0.05).sum())


def plant(activations, table, experts):
    """Return activations of which some neurons of the first layer detect a function, and the planted pairs."""
    planted, deviations = activations.copy(), activations.std(axis=1)
    pairs = []
    for number, function in enumerate(np.linspace(0, len(table) - 1, N_PLANTED).astype(int)):
        expert = number % 5
        start = 6 * (number // 5)
        module = np.flatnonzero(experts[0] == expert)[start : start + 12]
        planted[module] += 1.5 * deviations[module, None] * table[function]
        pairs.append((0, expert, function))
    return planted, tuple(np.transpose(pairs))


def main():
    """Print the tables."""
    parser = command_line(__doc__)
    parser.add_argument("--corpus", default="../../shared/corpora/semcor3.0", help="folder of SemCor 3.0")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=1, help="draws of each control")
    parser.add_argument("--permutations", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        activations, clusterings = measure(arguments.corpus, Path(folder) / "store")
    codes = {name: np.unique(of, return_inverse=True)[1] for name, of in clusterings.items()}
    experts = [experts_of(each) for each in np.split(activations, N_LAYERS)]
    units = {name: codes[name] for name in ("text", "word")}
    settings = units, experts, arguments.draws, arguments.permutations
    kinds = [("span", np.arange(activations.shape[1]), 1)]
    kinds += [(f"{name}, correlation {rho}", codes[name], rho) for name in units for rho in (0.1, 1)]
    rows, power = [], np.zeros(2)
    for kind, (name, of, correlation) in enumerate(kinds):
        levels, counts = np.zeros((2, arguments.seeds)), np.zeros((4, arguments.seeds), int)
        for seed in range(arguments.seeds):
            table = draw_labels(np.random.default_rng([seed, kind]), of, correlation)
            found = tests(activations, table, *settings)
            levels[:, seed] = [np.mean(p <= 0.001) for p in found[:2]]
            counts[:, seed] = [n_significant(p) for p in found]
            if kind == 0:
                planted, pairs = plant(activations, table, experts)
                p = tests(planted, table, *settings)[:2]
                q = [stats.false_discovery_control(each.ravel()).reshape(each.shape) for each in p]
                power += [np.mean(each[pairs] <= 0.05) for each in q]
        shown = [f"{values.mean():.2f} ({values.max()})" for values in counts]
        rows.append([name, *(f"{level.mean():.5f}" for level in levels), *shown])
    header = ["labels drawn for each", "p <= .001, free", "control", "q <= .05 of 1,920, free", "control"]
    header += ["families of 32, free", "control"]
    free, control = power / arguments.seeds * N_PLANTED
    note = f"Planted modules found of {N_PLANTED}, mean over seeds: free {free:.1f}, control {control:.1f}."
    print_table("Experts where labels mean nothing: mean over seeds (worst)", header, rows, note)


if __name__ == "__main__":
    main()
