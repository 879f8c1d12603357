"""A checkpoint in memory.

In the order of reading: source (where its files are), steps, loading (what transformers reads), tokenizers,
unread (what nothing reads), checkpoint (the whole of it), behaviour (tried on texts), adjustments, heads, devices,
memory, digests.
"""
