"""What users bring: tables, folders and arrays of labelled images, and how they are split."""
