"""Where an architecture's neurons are, and how they are read and written.

In reading order: `feed_forwards` (the networks of a layer, and how neurons are numbered); `experts` (how transformers
holds experts, what one of them computes, and keeping a router from choosing some); `layers` (finding every network of a
model); `hooks` (reading and writing neurons while a model runs); `weights` (the vectors to and from each neuron, and
the tokens they stand for).
"""
