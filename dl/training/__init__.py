"""One run, from a config to its result."""
