"""What a job is asked, does and reports.

In the order of reading: settings and request (what is asked), reports (what is answered), known_runs (what the store
holds already), functions (which are measured), measurement (a model and a corpus, ready), forward (texts through the
model), sinks (rows made of a layer's neurons), run (all of it made and committed), job (one checkpoint), revisions and
series (many).
"""
