"""What the system does on this machine, told as ratios with their spread: `make bench`, or one part alone."""
