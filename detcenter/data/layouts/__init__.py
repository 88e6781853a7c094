"""How people lay out data sets: one file a layout, which turns it into annotations."""
