"""The stages of dvc.yaml: one file, one stage, one command."""
