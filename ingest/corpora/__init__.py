"""Labelled corpora: from files to the five tables of a corpus, and from the tables to what is measured.

In reading order: `instance` (what a reader returns); `files` (bytes to lines, objects and values); the readers `table`,
`folders`, `semcor`, `conllu`, `facts` with `trex`, `huggingface`; `labels` and `builder`, which write; `stored`, which
reads back; `shuffled` with `permutations`, the null of a corpus.
"""
