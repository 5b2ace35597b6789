"""Tasks that are functions to be regressed, drawn by formula."""
