"""Exact scores of neurons, their nulls, and their co-activation.

In the order of reading: scoring (what there is to call), kernel (the walk that scores), device (the same on a
GPU), nulls and null_draws (p-values), coactivation (which neurons are active together).
"""
