"""How a setting is declared: a type, a unit, a sentence and an example, once; and errors that are written from these."""
