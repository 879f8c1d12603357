"""A checkpoint in memory.

In reading order: `checkpoint` (which weights of a model are meant, where their files are, which revisions there are);
`steps` (the training step of a revision); `loading` (configuration, tokenizer and weights as transformers reads them,
with a head or without); `tokenizers` (their settings, and checks of them); `tensors` (digests, and those that the model
has no place for); `model` (the loaded model and its stacks); `behaviour` (what is set so that all of it can be read,
and what a trial shows of its attention); `devices` (moving it, and what to do where memory does not suffice).
"""
