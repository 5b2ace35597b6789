"""Tasks that are classes of texts."""
