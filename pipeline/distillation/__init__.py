"""Distillation itself: the targets and the loss of a student."""
