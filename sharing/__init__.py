"""Exchanging results: packs that a colleague can trust, their verification, and stores that become one.

Read ``references`` (which jobs depend on which), ``inventory`` (jobs and runs, with sizes), ``removal``, ``pack`` and
``croissant``, ``verify`` and ``recompute``, ``transfer``, ``comparison`` (are two makings of a job the same, but for
rounding?) and ``merging``.
"""
