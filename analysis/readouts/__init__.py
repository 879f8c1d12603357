"""What a model still tells of each function: texts, predictions, readout, probe, loss, choice."""
