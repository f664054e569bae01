"""A row of the index becomes pixels, and pixels become a view."""
