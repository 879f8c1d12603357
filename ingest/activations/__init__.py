"""Texts in, pooled activations out.

In the order of reading: tokens (texts and targets as the model reads them), batches (padded inputs), pooling (an
instance's tokens become one value a neuron), capture (neurons read while the model runs), buffer (their activations on
disk).
"""
