"""A study that cannot be made as asked is refused before anything is written."""
