"""The data sets: one module per source, each with functions that return a `core.Dataset`.

Nothing is imported here, so that a config can be checked against one function's annotations without
paying for the others. scikit-learn and Keras are imported inside the functions for the same reason.
"""
