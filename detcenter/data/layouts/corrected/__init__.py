"""Data sets with single boxes changed; everything else in their files stays as it is."""
