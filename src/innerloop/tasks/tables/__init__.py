"""Tasks that are tables: rows of numbers and words, and a class or a number to predict."""
