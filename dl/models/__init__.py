"""Networks: a file an architecture, with how it is split and which weights it reads."""
