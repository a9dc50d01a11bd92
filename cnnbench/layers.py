"""Layers and activations that Keras lacks, registered so that checkpoints load without custom objects."""
