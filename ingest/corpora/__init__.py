"""Labelled corpora in: one reader a file, one builder for all."""
