"""Tiny models of every text architecture of transformers, and their neurons by definition.

In reading order: zoo_specs (what describes a feed-forward layer), zoo_styles (networks by definition), zoo_dense,
zoo_experts and zoo_routers (the declared architectures), zoo_overrides and zoo_configs (tiny configurations),
zoo_brute_force (the neurons, recomputed), zoo_verdicts (what the package makes of each).
"""
