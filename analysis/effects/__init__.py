"""Effects of perturbations, tested: resampling, set_sample, contrast, rows."""
