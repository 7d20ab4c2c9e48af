"""What is recorded of a run: a folder of plain files, and MLflow as its mirror.

In: parameters, tags, metrics, files and the model of a training. Out: the same in one MLflow run,
sooner or later, once each, without anything waiting for the store.
Open first: logger.py. mlflow/ is all that knows MLflow's store.
"""
