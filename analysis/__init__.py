"""What is computed on query results.

In the order of reading: lookup (a run or partition by its id), neuron_rows (neurons that SQL names), partitions
(neurons into experts), alignment (experts and functions), readouts (what the model can still do), effects (tests of
what a perturbation did), perturbation (the study), emergence (the study over checkpoints), published (results of
others), sections (a sentence, a statement, its rows) and cards (of neurons and experts).
"""
