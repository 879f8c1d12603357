"""Where an architecture's neurons are, and how they are read and written.

In the order of reading: feed_forwards and widths (what a network is), layers (finding all of them), sites (what is read
of a neuron), hooks (reading and writing as the model runs), experts and routers (mixtures), intervention, weights.
"""
