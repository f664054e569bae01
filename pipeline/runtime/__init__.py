"""How any run behaves: errors, progress, files that appear whole, work that survives a kill, devices."""
