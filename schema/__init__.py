"""What a store is: its tables, the rows that conform to them, the files on disk, and how a job commits.

Read ``tables`` and ``vocabulary`` (what is declared), ``names`` (digests and paths), ``conformance`` and ``parquet``
(rows), ``store``, ``job``, ``commits`` and ``card`` (what is committed), ``disk``, ``leftovers`` and ``integrity``
(what holds after a crash), and ``stores`` (those that are only read: at a URL, in one file, several as one).
"""
