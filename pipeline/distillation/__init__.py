"""What it is all for: the targets and the loss of a student."""
