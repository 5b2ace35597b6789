"""Tasks that are classes of images, from folders and data sets."""
