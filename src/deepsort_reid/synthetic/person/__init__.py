"""One rendered person: who they are, how they stand, and how they are drawn.

In: a random generator, a moment of a stride, a view. Out: a person on a layer of pixels.
Open first: people.py (a person's traits), then figure.py (draws them).
"""
