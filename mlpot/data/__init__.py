"""Structures and labels as files hold them."""
