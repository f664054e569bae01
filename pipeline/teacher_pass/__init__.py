"""The one pass of the teacher over every view, and what is checked before it."""
