"""Hides JAX from the processes that tests start: TensorFlow imports it where it can, which takes most of a second."""

raise ImportError("processes that tests start do without JAX, as users do who have not installed it")
