"""Output for users: tables, plots, the live view, and reports that open offline as a single file."""
