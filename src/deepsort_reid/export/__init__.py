"""The network in every form that trackers take, each file verified against the checkpoint.

In: a checkpoint. Out: models/export, and how closely each file agrees.
Open first: formats.py, the table of formats; a new one is a row there, and a
function in runtimes.py that runs it.
"""
