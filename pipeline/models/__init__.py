"""Keras models and their files: architectures, and teachers that somebody brings along."""
