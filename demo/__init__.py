"""A small corpus that shows what neuronlake finds, made to be read: ``corpus`` (what is measured on), then ``run``."""
