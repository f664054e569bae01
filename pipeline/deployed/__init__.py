"""Reads and runs the files of the stage `export`, without TensorFlow: only their own runtime is needed."""
