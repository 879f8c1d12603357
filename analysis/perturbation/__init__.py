"""Perturbing neurons that queries find, and what that does to what a model can do."""
