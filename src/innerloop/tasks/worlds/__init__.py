"""Environments to act in, and the returns that policies have there."""
