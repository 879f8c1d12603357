"""neuronlake: the analysis database for the neurons of transformers."""
