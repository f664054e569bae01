"""What a model's answers are worth, and which epoch is best: the same rules in training and for the results."""
