"""Layouts of people's own data: a folder for each identity, folders with a split, a table."""
