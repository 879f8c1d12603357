"""Stores that are only read: at a URL, in one file, several as one.

Read ``reading`` (what they share), ``remote``, ``archive``, and ``union`` (several stores as one, and which kind of
store a name stands for).
"""
