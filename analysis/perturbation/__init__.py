"""Ablating neurons that queries find, and what that does to what a model can do.

`ablation` stands alone: it changes what neurons hold while a model runs. The rest is the study behind
``neuronlake perturb``, in the order in which it runs:

- `settings`: what defines a study;
- `study`: the study as a whole, its plan and its report;
- `request`: what it asks for, found in the store;
- `preparation`: the loaded model, the fitted readout and all cells;
- `population`: the neurons that are studied, and draws of control neurons from them;
- `sources`: each function's neurons, ranked;
- `cells`: which neurons are ablated in each pass over the texts;
- `passes`: the passes, and the values they read;
- `rows`: the results as rows of tables.
"""
