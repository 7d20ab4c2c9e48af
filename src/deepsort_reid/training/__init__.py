"""The loop: ranks that train one network together, and resume where they were interrupted.

In: packed parts and the training parameters. Out: models/model.pth, the history, the curves.
Open first: trainer.py. A new loss goes into losses.py.
"""
