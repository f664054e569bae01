"""What is drawn of a run, and said in words: the page and the pictures."""
