"""Commands whose modules cannot lie in the root: see `dl.__path__`."""
