"""Effects of perturbations, tested: resampling, set_sample, comparison, dose_effects, contrasts, means."""
