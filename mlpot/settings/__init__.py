"""What users may say of a model, its fit and its run: each setting declared once."""
