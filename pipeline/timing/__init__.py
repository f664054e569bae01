"""Times exported files and the teacher, each in a process of its own."""
