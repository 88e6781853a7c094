"""A run and its folder: training it, going on with it, reading what it left."""
