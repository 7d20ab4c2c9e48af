"""Layouts of published re-ID datasets, each with its paper and its counts."""
