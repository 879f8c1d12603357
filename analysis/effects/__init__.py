"""Effects of perturbations, tested: resampling, control_sets, contrast, rows."""
