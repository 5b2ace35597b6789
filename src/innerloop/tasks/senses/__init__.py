"""Things that are met by more than one sense."""
