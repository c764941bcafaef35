"""The verbs. A new one is a file NAME.py here with a function NAME."""
