"""When experts and neurons settle, over the checkpoints of a series.

Read in this order: ``series`` (which runs are compared), ``settings`` (how experts are made), ``lineages`` (the
partitions), ``rows`` (what is stored, and how alike two partitions are), ``stability`` (how alike scores are at two
checkpoints), ``study`` (all of it) and ``summary`` (what is said of it).
"""
