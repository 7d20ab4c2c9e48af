"""Pretrained weights: where the file comes from, what kind of file it is, and what of it fits.

In: what the parameter `weights` states, and a network. Out: the network with these weights, or one
line that says which architecture or kind of file it is instead.
Open first: loading.py.
"""
