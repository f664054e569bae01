"""Measures what offline distillation costs, what it saves and whether it helps; docs/benchmarks.md has the results."""
