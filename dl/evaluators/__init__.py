"""Second opinions on a state, which a config names: a file an opinion."""
