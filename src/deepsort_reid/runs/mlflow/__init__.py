"""MLflow as the mirror of a run's folder: its store, what makes the two equal, and when.

store.py opens the store, mirror.py makes a run in it equal to the folder, sync.py does so again and
again while a stage runs, registry.py keeps the versions of the model, failures.py says why a store
has failed and what to do.
"""
