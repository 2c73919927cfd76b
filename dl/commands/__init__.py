"""What a shell calls: flags in, one call, text out."""
