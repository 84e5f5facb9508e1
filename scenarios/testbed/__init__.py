"""Where peers run: providers behind one interface, and the `fab testbed.*` commands."""
