"""Trained models for people: those that are part of the package, the Python interface, and how a model is released."""
