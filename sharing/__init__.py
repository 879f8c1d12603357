"""Exchanging results: packs that a colleague can trust, and their verification."""
