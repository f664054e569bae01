"""Turns a student into files for phones, boards and servers, and measures what they answer."""
