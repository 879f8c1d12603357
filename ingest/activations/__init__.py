"""Texts in, pooled activations out: tokens, targets, batches, pooling, capture, drain, buffer."""
