"""What task, model, data and loop agree on."""
