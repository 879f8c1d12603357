"""Readouts: what a model can still do on a corpus, instance by instance.

Read in this order: `readout` (what every readout has and does, and the texts it is fitted on and reads), `probe` (a
linear classifier on the final hidden states), `predictions` (what a model with its head predicts), `loss` (the
language-model loss of each instance) and `choice` (whether the model prefers the right label word).

A new readout is a module here with a class that takes `readout.Texts` and has what `readout.Readout` asks for. Its name
is added to `ReadoutKind` in ``schema/vocabulary.py``, its class to `_READOUTS` in ``perturbation/preparation.py``.
"""
