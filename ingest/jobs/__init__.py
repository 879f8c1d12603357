"""What a job is asked, does and reports.

In the order of reading: settings (what is asked), reports (what is answered), revisions (which there are, and what the
store holds of them), measurement (a model and a corpus, ready), forward (texts through the model), sinks (rows made of
a layer's neurons), run (all of it made and committed), plan (what that would take), job (one checkpoint, or many). In
additions lies what may be added to a run.
"""
