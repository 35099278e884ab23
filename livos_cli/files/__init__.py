"""Files that are complete or absent, livos's own folder, names and content from elsewhere."""
