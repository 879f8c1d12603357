"""Labelled corpora: from files to the five tables of a corpus, and from the tables to what is measured.

In reading order: `instance` (what a reader returns); `files` (bytes to lines, objects and values); `readers`; `labels`
and `builder`, which write; `stored`, which reads back; `control_tasks`, which permute labels, as a
reader too.
"""
