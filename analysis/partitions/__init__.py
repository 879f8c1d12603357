"""Neurons into experts: settings, clustering, chance, stored, sources, job."""
