"""Where an architecture's neurons are, and how they are read and written.

In reading order: `feed_forwards` (the networks of a layer, and how neurons are numbered); `widths` (the sizes that a
configuration implies); `expert_modules` (how transformers holds experts, and what one of them computes); `layers`
(finding every network of a model); `hooks` (reading and writing neurons while a model runs); `routers` (keeping a
router from choosing some experts); `weights` (the vectors to and from each neuron, and the tokens they stand for).
"""
