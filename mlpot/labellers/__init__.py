"""Sources of labels: electronic-structure codes behind one protocol, each label in a process of its own."""
