"""The loop: ranks that train one network together, and resume where they were interrupted.

In: packed parts and the training parameters. Out: models/model.pth, the history, the curves.
Open first: trainer.py, the loop over epochs and steps; then learner.py, what a step does to the
weights. A new loss goes into losses/, and its term into total.py there. What rank 0 writes
meanwhile are observers.
"""
