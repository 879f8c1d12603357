"""A checkpoint in memory.

In reading order: `checkpoint` (which weights of a model are meant, where their files are, which revisions there are);
`steps` (the training step of a revision); `loading` (configuration, tokenizer and weights as transformers reads them);
`tokenizers` (their settings, and checks of them); `tensors` (digests, and those that the model has no place for);
`heads` (the class with a language-model head, and the body within it); `model` (the loaded model and its stacks);
`behaviour` (what is set so that all of it can be read, and what a trial shows of its attention); `devices` (moving it,
and what to do where memory does not suffice); `embeddings` (the vectors of its tokens).
"""
