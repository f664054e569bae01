"""Keras models and their files: architectures that are built here, and teachers that were trained elsewhere."""
