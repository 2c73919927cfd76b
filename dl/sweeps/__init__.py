"""Many runs of one config: which, started, compared."""
