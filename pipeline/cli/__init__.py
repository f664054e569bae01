"""The command line. It alone knows params.yaml and where files lie."""
