"""Readers of labelled corpora, one form a file: each returns a `Source`.

`table` (one instance a row), `folders` (one a label), `semcor`, `conllu`, `facts` (T-REx), `huggingface`, `shuffled`
(a stored corpus with its labels permuted).
"""
