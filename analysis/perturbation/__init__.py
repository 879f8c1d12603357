"""Ablating neurons that queries find, and what that does to what a model can do.

`ablation` stands alone: it changes what neurons hold while a model runs. The rest is the study behind ``neuronlake
perturb``, in the order in which it runs: `settings` (what defines a study), `study` (all of it: what it asks of the
store, and its report), `preparation` (the loaded model, the fitted readout, all cells), `population` (the neurons
studied, and draws of control neurons from them), `sources` (each function's neurons and those of controls, ranked, and
which are ablated in each pass over the texts), `passes` (the passes, and the values they read) and `rows` (the tables).
"""
