"""Routes for operators: dead letters, read models, metrics."""
