"""Texts in, pooled activations out.

In the order of reading: pooling (an instance's tokens become one value a neuron), tokens (texts and targets as the
model reads them, in padded batches), capture (neurons read while the model runs), buffer (their activations on disk).
"""
