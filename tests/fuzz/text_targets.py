TARGETS: dict = {}
