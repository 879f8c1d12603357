"""Effects of perturbations, tested: resampling, set_sample, comparison, contrast, rows."""
