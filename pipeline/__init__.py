"""Offline soft-label precomputation for knowledge distillation."""
