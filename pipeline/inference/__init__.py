"""A trained model run forward, and what that costs."""
