"""What a recipe can say, and the objects that it names."""
