"""What a store is: its tables, the rows that conform to them, the files on disk, and how a job commits.

Read ``tables`` and ``vocabulary`` (what is declared), ``identity`` and ``names`` (ids, digests, paths),
``conformance`` and ``parquet`` (rows), ``store``, ``job``, ``commits`` and ``card`` (what is committed), ``disk``,
``leftovers``, ``claims`` and ``integrity`` (what holds after a crash), ``references`` (which jobs depend on which), and
``stores`` (those that are only read: at a URL, in one file, several as one).
"""
