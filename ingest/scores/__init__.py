"""Exact scores of neurons and their nulls: kernel, scoring, nulls, null_draws."""
