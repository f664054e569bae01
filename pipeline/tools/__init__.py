"""Commands that run no stage."""
