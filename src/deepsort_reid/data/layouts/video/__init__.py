"""Layouts of annotated videos, of which each box becomes an image."""
