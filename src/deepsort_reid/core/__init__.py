"""What every room stands on: parameters, files, errors, the screen, signals.

In: params.yaml. Out: frozen parameters; files that appear whole or not at all; one line for each
error that a user can mend. Nothing here knows of images or networks.
Open first: config.py (the parameters), then stage.py (how a stage starts and fails).
"""
