"""A small corpus that shows what neuronlake finds, made to be read.

Read in this order: ``word_senses`` and ``corpus`` (what is measured on), ``run`` (what is measured and shown).
"""
