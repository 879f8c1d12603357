"""Readers of labelled corpora, one form a file: each returns a `Source`.

`table` (one instance a row), `classes` (texts of one class each), `semcor`, `conllu`, `facts` (T-REx).
"""
