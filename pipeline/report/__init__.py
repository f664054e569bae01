"""What is drawn and said of a run: the page and the pictures."""
