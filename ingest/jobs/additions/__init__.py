"""What may be added to a run, then or later: jobs of their own beside it.

Highlights (on which tokens neurons fire), vocabulary (which tokens their weights write and read), and best (what comes
first by the scores of runs that lack it).
"""
