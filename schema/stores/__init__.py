"""Stores that are only read: at a URL, in one file, several as one.

Read ``reading`` (what they share), ``remote`` (at a URL, in an archive), and ``union`` (several as one, and which kind
of store a name stands for).
"""
