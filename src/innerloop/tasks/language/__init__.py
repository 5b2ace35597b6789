"""Tasks that are languages: the next token is predicted."""
