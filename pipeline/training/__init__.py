"""Training by plain `fit`, which continues after a kill."""
