"""What a step will cost on devices that are not here."""
