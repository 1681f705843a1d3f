"""HTTP for every service: the app, its problems, parameters, server and the operators' routes."""
