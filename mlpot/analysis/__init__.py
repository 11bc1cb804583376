"""Looking at descriptors and data: features, the criteria of a descriptor, maps of environments."""
