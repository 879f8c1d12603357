"""A small corpus that shows what neuronlake finds, made to be read."""
