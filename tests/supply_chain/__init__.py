"""What the product is made of besides its own code, looked up, listed, and held against what may be."""
