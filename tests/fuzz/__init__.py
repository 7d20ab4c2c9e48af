"""Damages every kind of file that the project reads, and judges what its reader makes of it."""
