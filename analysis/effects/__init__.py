"""Effects of perturbations, tested: resampling, contrast, rows."""
