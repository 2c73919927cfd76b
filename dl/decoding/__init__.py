"""From a model of sequences to sequences."""
