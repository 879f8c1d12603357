"""What a job is asked, does and reports.

In the order of reading: settings, request, known_runs (what the store holds), measurement (what is to be made), forward
(texts through the model), rows, coactivations, run (scores staged and committed), summary, plan, job (one checkpoint),
revisions, series (many).
"""
