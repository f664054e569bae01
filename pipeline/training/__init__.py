"""Training by plain `fit`, which goes on after a kill."""
