"""Search: a space, an objective, and what decides between them. Knows no experiment and no model."""
