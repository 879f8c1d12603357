"""Readouts: what a model can still do on a corpus, instance by instance.

Read in this order:

- `readout`: what every readout has and does (`Readout`), and its value for each function (`summarize`);
- `texts`: which texts readouts are fitted on and read on, batch by batch;
- `probe`: a linear classifier on the final hidden states;
- `predictions`: what a model with its head predicts, as `loss` and `choice` need it;
- `loss`: the language-model loss of each instance;
- `choice`: whether the model prefers the right label word.

A new readout is a module here with a class that takes `texts.Texts` and has what `readout.Readout` asks for. Add its
name to `ReadoutKind` in ``schema/vocabulary.py`` and its class to `READOUTS` in
``analysis/perturbation/preparation.py``.
"""
