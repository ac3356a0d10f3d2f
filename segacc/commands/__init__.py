"""The commands of `segacc`, a function each."""
