"""Exchanging results: packs that a colleague can trust, their verification, and stores that become one.

Read ``jobs`` (which depend on which, lists of them, removal), ``pack``, ``verify``, ``transfer``, ``comparison`` (are
two makings of a job the same, but for rounding?) and ``merging``.
"""
