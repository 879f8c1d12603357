"""Exchanging results: packs that a colleague can trust, their verification, and stores that become one.

Read ``inventory`` (jobs and runs, with sizes and what depends on each), ``removal``, ``pack`` and ``croissant``,
``verify`` and ``recompute``, ``transfer``, ``comparison`` (are two makings of a job the same, but for rounding?) and
``merging``.
"""
