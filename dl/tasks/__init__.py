"""Learning problems: a file a problem."""
