"""Declaration of settings by type, unit, description and example; error messages are generated from these."""
