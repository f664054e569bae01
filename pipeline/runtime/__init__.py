"""What every run needs: errors, progress, files that appear in one step, work that survives a kill, devices."""
