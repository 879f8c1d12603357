"""Neurons into experts: settings, features, kmeans, graph, chance, sources, rows, stored, job."""
