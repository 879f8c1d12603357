"""A checkpoint in memory.

Files in reading order:

- checkpoint: which weights of a model are meant;
- source: where their files are, and which revisions there are;
- steps: the training step of a revision;
- loading: configuration, tokenizer and weights as transformers reads them;
- tokenizers: settings of a tokenizer, and checks of it;
- unread: tensors of the files that the model has no place for;
- heads: the class with a language-model head, and the body within it;
- model: the loaded model and its stacks;
- behaviour: what is set so that all of it can be read; whether it attends to what follows and to padding, by a trial;
- devices: moving it, and what to do where memory does not suffice;
- digests: digests of its weights.
"""
