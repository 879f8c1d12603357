"""Neurons into experts: settings, features, kmeans, graph, chance, stored, sources, job."""
