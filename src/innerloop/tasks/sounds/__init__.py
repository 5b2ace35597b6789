"""Tasks that are classes of sounds."""
