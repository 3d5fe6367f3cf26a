"""Training: recipes, the steps that they name, the loop around them."""
