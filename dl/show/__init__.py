"""Arrays and numbers for people: pictures and words."""
