"""What operators and developers run: smsctl, the whole system on one machine, and the simulated providers."""
