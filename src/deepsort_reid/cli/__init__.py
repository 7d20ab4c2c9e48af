"""The command `deepsort-reid`: the stages, the recipes, and the network without a pipeline.

In: the arguments of the command line. Out: what the rooms below make, under the names that the user
chose. Begin with app.py, which declares the commands; each imports what it needs when it runs.
"""
