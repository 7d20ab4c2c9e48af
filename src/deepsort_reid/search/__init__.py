"""Values of parameters that train a better network, found by trials.

In: params.yaml, and search.yaml, which says what may vary. Out: a study of trials, each trained and
evaluated on identities held out of training, and the command that trains the best one again.
Open first: loop.py, which draws trials, watches them and takes their scores.
"""
