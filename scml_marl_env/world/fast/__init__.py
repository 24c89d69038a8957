"""The compiled engine: SCML's worlds as a few arrays, and the rules of SEMANTICS.md as kernels on them."""
