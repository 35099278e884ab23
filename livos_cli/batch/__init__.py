"""Many videos: found, matched with masks, planned, done, split, over many devices."""
